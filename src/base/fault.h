/* SPDX-License-Identifier: Apache-2.0
 * Fault points: a sweep makes the n-th allocation or the n-th I/O call fail and asserts that the error
 * path speaks and leaks nothing. Costs one relaxed load when not armed. Any thread. */
#ifndef INGOT_BASE_FAULT_H
#define INGOT_BASE_FAULT_H

#include "base/platform.h"

/* FAULT_KILL counts I/O calls too, but kills the process at the n-th (SIGKILL): what a crash leaves behind at
 * each step of a checkpoint. */
typedef enum FaultKind { FAULT_ALLOC, FAULT_IO, FAULT_KILL, FAULT_KIND_COUNT } FaultKind;

/* Arm: the n-th (1-based) call from now on of that kind fails, once; UINT64_MAX only counts. 0 disarms
 * and keeps the count and what fault_fired says. */
void fault_arm(FaultKind kind, uint64_t n);
/* Calls of that kind while armed. */
uint64_t fault_count(FaultKind kind);
/* True if the armed fault of that kind has gone off. */
bool fault_fired(FaultKind kind);
/* Asked by mem.c and io.c on every call: must this one fail? */
bool fault_hit(FaultKind kind);

#endif
