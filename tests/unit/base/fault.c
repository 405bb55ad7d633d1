/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"

#include <pthread.h>

#include "test.h"

TEST(the_nth_call_fails_once) {
    fault_arm(FAULT_IO, 3);
    int hits = 0, at = 0;
    for (int i = 1; i <= 10; i++)
        if (fault_hit(FAULT_IO)) hits++, at = i;
    EQ(hits, 1);
    EQ(at, 3);
    EQ(fault_count(FAULT_IO), 10);
    TRUE_(fault_fired(FAULT_IO));
    fault_arm(FAULT_IO, 0);
    EQ(fault_hit(FAULT_IO), false);
    EQ(fault_count(FAULT_IO), 10); /* disarming keeps what was seen */
    TRUE_(fault_fired(FAULT_IO));
}

TEST(kinds_are_apart) {
    fault_arm(FAULT_IO, 1);
    EQ(fault_hit(FAULT_ALLOC), false);
    EQ(fault_fired(FAULT_IO), false);
    EQ(fault_hit(FAULT_IO), true);
    fault_arm(FAULT_IO, 0);
}

TEST(counting_only) {
    fault_arm(FAULT_ALLOC, UINT64_MAX);
    for (int i = 0; i < 100; i++) EQ(fault_hit(FAULT_ALLOC), false);
    EQ(fault_count(FAULT_ALLOC), 100);
    fault_arm(FAULT_ALLOC, 0);
    EQ(fault_fired(FAULT_ALLOC), false);
}

static void *hit_many(void *arg) {
    int *hits = arg;
    for (int i = 0; i < 10000; i++) *hits += fault_hit(FAULT_IO);
    return NULL;
}

TEST(one_thread_gets_it) {
    pthread_t t[4];
    int hits[4] = {0}, all = 0;
    fault_arm(FAULT_IO, 20000);
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, hit_many, &hits[i]);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    fault_arm(FAULT_IO, 0);
    for (int i = 0; i < 4; i++) all += hits[i];
    EQ(all, 1);
    EQ(fault_count(FAULT_IO), 40000);
}
