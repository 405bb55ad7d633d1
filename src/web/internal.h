/* SPDX-License-Identifier: Apache-2.0
 * Inside web/: the table that tools/pages writes. */
#ifndef INGOT_WEB_INTERNAL_H
#define INGOT_WEB_INTERNAL_H

#include "web/web.h"

extern const WebAsset web__assets[];
extern const int web__n_assets;

#endif
