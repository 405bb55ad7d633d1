/* SPDX-License-Identifier: Apache-2.0
 * What rights `ingot serve` keeps (base/confine.h): found out as it starts, given up once its port is bound and before
 * there is a second thread. */
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/io.h"
#include "base/log.h"
#include "cli/serve.h"
#include "store/store.h"

/* The folder that log files are made in, appended. */
static Status log_folder(StrBuf *out, const char *file, Err *e) {
    char *copy = mem_dup(file, strlen(file));
    if (!copy) return err_set(e, ERR_NOMEM, "name of a log file");
    sb_puts(out, dirname(copy));
    mem_free(copy);
    return sb_check(out, e);
}

Status cli_serve_confine_begin(ServeConfine *s, const ServeCmd *c, Err *e) {
    Err none = {0};
    if (c->user) TRY(confine_find_user(&s->user, c->user, e));
    if (config_state_dir(&s->state, &cli_env, c->state_dir, NULL) != OK ||
        store_make_dir(sb_str(&s->state), &none) != OK)
        sb_clear(&s->state); /* there are no ratings then, and open_feedback says why */
    if (s->user.given && s->state.n > 0) TRY(confine_give_folder(sb_str(&s->state), &s->user, e));
    return c->log_file ? log_folder(&s->logs, c->log_file, e) : OK;
}

void cli_serve_confine_deinit(ServeConfine *s) {
    sb_deinit(&s->state);
    sb_deinit(&s->logs);
    sb_deinit(&s->said);
}

/* ---- what is said ---- */

static void put_files(StrBuf *b, const ServeConfine *s, const Confined *c, bool wanted) {
    if (c->files == 0) {
        sb_puts(b, wanted ? ", files not confined (this kernel has no Landlock)"
                          : ", files not confined (--no-sandbox)");
        return;
    }
    sb_puts(b, s->state.n + s->logs.n > 0 ? ", writes only below " : ", writes no file");
    sb_puts(b, sb_str(&s->state));
    if (s->logs.n > 0) sb_printf(b, "%s%s", s->state.n > 0 ? " and " : "", sb_str(&s->logs));
}

static void describe(ServeConfine *s, const Confined *c, bool wanted) {
    StrBuf *b = &s->said;
    sb_puts(b, "confined: ");
    if (s->user.given)
        sb_printf(b, "user %s (%u:%u)", s->user.name, (unsigned)s->user.uid, (unsigned)s->user.gid);
    else sb_printf(b, "user %u", (unsigned)geteuid());
    if (!c->has_caps) sb_puts(b, ", no capabilities");
    if (c->no_new_privs) sb_puts(b, ", no new privileges");
    if (c->no_dumps) sb_puts(b, ", no core dumps");
    put_files(b, s, c, wanted);
    s->is_root = c->is_root;
}

/* Files that SIGHUP reads again, and that the user of now cannot read. */
static void say_unreadable(const ServeCmd *c) {
    const struct {
        const char *key, *path;
    } files[] = {{"tls_cert", c->tls_cert}, {"tls_key", c->tls_key}, {"config", c->config}};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        if (!files[i].path || faccessat(AT_FDCWD, files[i].path, R_OK, AT_EACCESS) == 0) continue;
        log_warn("%s: %s cannot be read by %s: SIGHUP will keep what is in force", files[i].key,
                 files[i].path, c->user);
    }
}

Status cli_serve_confine(ServeConfine *s, const ServeCmd *c, Err *e) {
    const char *folder[2];
    Confined got;
    ConfineOpts o = {.user = s->user, .folder = folder, .files = c->sandbox};
    if (s->state.n > 0) folder[o.n_folders++] = sb_str(&s->state);
    if (s->logs.n > 0) folder[o.n_folders++] = sb_str(&s->logs);
    Err why = {0};
    Status st = confine_apply(&got, &o, &why);
    if (s->user.given && geteuid() != 0 && s->state.n > 0 &&
        faccessat(AT_FDCWD, sb_str(&s->state), R_OK | W_OK | X_OK, AT_EACCESS) != 0)
        return err_set(e, ERR_IO, "%s: user %s does not reach it; name a folder with --state-dir",
                       sb_str(&s->state), s->user.name);
    if (st != OK) return err_set(e, st, "%s", why.msg);
    describe(s, &got, c->sandbox);
    if (s->user.given) say_unreadable(c);
    return OK;
}
