/* SPDX-License-Identifier: Apache-2.0
 * Where the control group of this process lives, for the memory and processor limits of a
 * container. /proc/self/cgroup has one line "id:controllers:path" per hierarchy; version 2 is
 * "0::path". Inside a container the path may be the host's and not exist here, so every ancestor up
 * to the mount point is tried. Nothing here allocates or fails: no control group means no limit.
 * Any thread. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/internal.h"

#define CGROUP_ROOT "/sys/fs/cgroup"
#define CGROUP_PATH 1024

typedef struct Visit {
    const char *controller;
    void (*fn)(void *ctx, const char *dir);
    void *ctx;
} Visit;

static bool read_start(char *buf, size_t cap, const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, buf, cap - 1);
    close(fd);
    if (n < 0) return false;
    buf[n] = '\0';
    return true;
}

bool cgroup__read(char *buf, size_t cap, const char *dir, const char *file) {
    char path[CGROUP_PATH + 64];
    int n = snprintf(path, sizeof path, "%s/%s", dir, file);
    if (n < 0 || (size_t)n >= sizeof path || !read_start(buf, cap, path)) return false;
    buf[strcspn(buf, "\n")] = '\0';
    return true;
}

static void visit_up(const Visit *v, const char *mount, const char *path) {
    char dir[CGROUP_PATH];
    int n = snprintf(dir, sizeof dir, "%s%s", mount, path);
    if (n < 0 || (size_t)n >= sizeof dir) snprintf(dir, sizeof dir, "%s", mount);
    size_t n_mount = strlen(mount);
    for (;;) {
        v->fn(v->ctx, dir);
        char *slash = strrchr(dir, '/');
        if (!slash || (size_t)(slash - dir) < n_mount) return;
        *slash = '\0';
    }
}

/* True if the comma-separated list has the name. */
static bool has_name(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *p = list; *p; p += strcspn(p, ",")) {
        if (*p == ',') p++;
        if (strncmp(p, name, n) == 0 && (p[n] == ',' || p[n] == '\0')) return true;
    }
    return false;
}

static void visit_line(const Visit *v, char *line) {
    char *list = strchr(line, ':');
    char *path = list ? strchr(list + 1, ':') : NULL;
    if (!path) return;
    *path++ = '\0';
    list++;
    char mount[128];
    if (*list == '\0') snprintf(mount, sizeof mount, "%s", CGROUP_ROOT);
    else if (has_name(list, v->controller))
        snprintf(mount, sizeof mount, "%s/%s", CGROUP_ROOT, v->controller);
    else return;
    visit_up(v, mount, path);
}

void cgroup__visit(const char *controller, void (*fn)(void *ctx, const char *dir), void *ctx) {
    Visit v = {controller, fn, ctx};
    char text[2048], *rest = NULL;
    if (!read_start(text, sizeof text, "/proc/self/cgroup")) return;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        visit_line(&v, line);
}
