/* SPDX-License-Identifier: Apache-2.0
 * Inside plot/: the look and the script of a page. */
#ifndef INGOT_PLOT_INTERNAL_H
#define INGOT_PLOT_INTERNAL_H

extern const char plot__css[], plot__js[];

#endif
