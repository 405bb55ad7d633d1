/* SPDX-License-Identifier: Apache-2.0
 * Continue a text:  cc -o generate generate.c $(pkg-config --cflags --libs ingot)
 *                   ./generate model.gguf "def add(a, b):" */
#include <stdio.h>

#include "ingot.h"

static int print(void *ctx, const IngotPart *part) {
    (void)ctx;
    fwrite(part->text, 1, part->n_text, stdout);
    return fflush(stdout); /* a failure ends the generation */
}

int main(int argc, char **argv) {
    IngotError err = {0};
    IngotModel *model = NULL;
    IngotRequest r = {0};
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL.gguf TEXT\n", argv[0]);
        return 2;
    }
    r.size = sizeof r;
    r.prompt = argv[2];
    r.max_tokens = 64;
    r.on_part = print;
    if (ingot_load(&model, argv[1], NULL, &err) == INGOT_OK) ingot_generate(model, &r, NULL, &err);
    ingot_free(model);
    if (err.code != INGOT_OK) fprintf(stderr, "%s\n", err.text);
    else putchar('\n');
    return err.code != INGOT_OK;
}
