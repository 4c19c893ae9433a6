/* A disk that fails, for whole process trees: preloaded, it stands before the calls of libc that
 * change what is below one folder, counts them over all processes, and at one of them fails or kills.
 *
 *   FAIL_BELOW    the folder; calls on other paths are let through
 *   FAIL_COUNTER  a file of at least sizeof(struct shared) zeros, mapped by every process
 *   FAIL_AT       the number of the call at which it happens, from 1; 0: only count
 *   FAIL_HOW      kill, kill-runner, torn (half of a write, then kill), short, ENOSPC, EIO
 *   FAIL_STICKY   1: every call from then on fails, not one alone
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#undef open
#undef open64
#undef openat
#undef openat64
#undef pwrite
#undef pwrite64
#undef ftruncate
#undef ftruncate64

struct shared {
    _Atomic uint64_t count; /* calls so far */
    _Atomic uint64_t fired; /* how many of them failed */
    _Atomic int64_t runner; /* the first process of the tree */
    char what[512];         /* the first that failed, for people */
};

enum how { COUNT, KILL, KILL_RUNNER, TORN, SHORT, FULL, BROKEN };

static struct shared *shared;
static char below[PATH_MAX];
static size_t below_length;
static uint64_t at;
static enum how how = COUNT;
static int sticky;

#define REAL(result, name, ...) \
    static result (*real_##name)(__VA_ARGS__); \
    static void find_##name(void) { \
        if (!real_##name) real_##name = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name); \
    }

REAL(int, open, const char *, int, ...)
REAL(int, openat, int, const char *, int, ...)
REAL(ssize_t, write, int, const void *, size_t)
REAL(ssize_t, pwrite, int, const void *, size_t, off_t)
REAL(ssize_t, writev, int, const struct iovec *, int)
REAL(int, rename, const char *, const char *)
REAL(int, renameat, int, const char *, int, const char *)
REAL(int, unlink, const char *)
REAL(int, unlinkat, int, const char *, int)
REAL(int, rmdir, const char *)
REAL(int, fsync, int)
REAL(int, fdatasync, int)
REAL(int, mkdir, const char *, mode_t)
REAL(int, mkdirat, int, const char *, mode_t)
REAL(int, link, const char *, const char *)
REAL(int, symlink, const char *, const char *)
REAL(int, ftruncate, int, off_t)
REAL(int, close, int)

__attribute__((constructor)) static void begin(void) {
    static const char *const names[] = {"count", "kill", "kill-runner", "torn", "short", "ENOSPC", "EIO"};
    const char *counter = getenv("FAIL_COUNTER"), *folder = getenv("FAIL_BELOW"), *word;
    find_open(), find_openat(), find_write(), find_pwrite(), find_writev(), find_rename(), find_renameat();
    find_unlink(), find_unlinkat(), find_rmdir(), find_fsync(), find_fdatasync(), find_mkdir();
    find_mkdirat(), find_link(), find_symlink(), find_ftruncate(), find_close();
    if (!counter || !folder || strlen(folder) >= sizeof below) return;
    strcpy(below, folder);
    below_length = strlen(below);
    if ((word = getenv("FAIL_AT"))) at = strtoull(word, NULL, 10);
    if ((word = getenv("FAIL_STICKY"))) sticky = word[0] == '1';
    if ((word = getenv("FAIL_HOW")))
        for (int i = 0; i <= BROKEN; i++)
            if (!strcmp(word, names[i])) how = (enum how)i;
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, counter, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return;
    void *map = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    syscall(SYS_close, descriptor);
    if (map == MAP_FAILED) return;
    shared = map;
    int64_t nobody = 0;
    atomic_compare_exchange_strong(&shared->runner, &nobody, (int64_t)getpid());
}

/* The path that a descriptor is open at; "" if it has none. */
static void path_of(int descriptor, char *path) {
    char name[40];
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(name, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

static int is_below(const char *path) {
    return !strncmp(path, below, below_length) && (path[below_length] == 0 || path[below_length] == '/');
}

/* Whether a path, taken from a folder that is open, is one of those that fail. */
static int counts(int folder, const char *path, char *whole) {
    if (!shared || !path) return 0;
    if (path[0] == '/') {
        snprintf(whole, PATH_MAX, "%s", path);
    } else {
        char start[PATH_MAX];
        if (folder != AT_FDCWD) path_of(folder, start);
        else if (!getcwd(start, sizeof start)) return 0;
        snprintf(whole, PATH_MAX, "%.2000s/%.2000s", start, path);
    }
    return is_below(whole);
}

static int counts_descriptor(int descriptor, char *whole) {
    if (!shared || descriptor < 0) return 0;
    path_of(descriptor, whole);
    return is_below(whole);
}

/* Count one call; whether it is to fail now. `takes_room`: a full disk refuses it. */
static int strikes(const char *name, const char *path, int takes_room, int is_write) {
    uint64_t number = atomic_fetch_add(&shared->count, 1) + 1;
    if (!at || number < at || how == COUNT) return 0;
    if (how == FULL && !takes_room) return 0;
    if (how == SHORT && !is_write) return 0;
    if (atomic_fetch_add(&shared->fired, 1) == 0)
        snprintf(shared->what, sizeof shared->what, "%s %.400s", name, path);
    else if (!sticky)
        return 0;
    if (how == KILL || (how == TORN && !is_write)) kill(getpid(), SIGKILL);
    if (how == KILL_RUNNER) {
        pid_t runner = (pid_t)atomic_load(&shared->runner);
        kill(runner, SIGKILL);
        return 0;
    }
    errno = how == FULL ? ENOSPC : EIO;
    return 1;
}

#define MAY_STRIKE(name, condition, takes_room) \
    char whole[PATH_MAX]; \
    if ((condition) && strikes(name, whole, takes_room, 0)) return -1

static int opens_to_write(int flags) { return (flags & O_CREAT) || (flags & O_ACCMODE) != O_RDONLY; }

static mode_t mode_of(int flags, va_list more) {
    return (flags & (O_CREAT | __O_TMPFILE)) ? va_arg(more, mode_t) : 0;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_of(flags, more); \
        va_end(more); \
        find_open(); \
        MAY_STRIKE("open", opens_to_write(flags) && counts(AT_FDCWD, path, whole), flags & O_CREAT); \
        return real_open(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_of(flags, more); \
        va_end(more); \
        find_openat(); \
        MAY_STRIKE("openat", opens_to_write(flags) && counts(folder, path, whole), flags & O_CREAT); \
        return real_openat(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

/* What of a write is done although it fails: half of it, where the disk is to tear or to shorten it. */
static ssize_t written(int descriptor, const void *data, size_t size) {
    if (how != TORN && how != SHORT) return -1;
    ssize_t done = real_write(descriptor, data, size > 1 ? size / 2 : size);
    if (how == TORN) kill(getpid(), SIGKILL);
    return done;
}

ssize_t write(int descriptor, const void *data, size_t size) {
    char whole[PATH_MAX];
    find_write();
    if (counts_descriptor(descriptor, whole) && strikes("write", whole, 1, 1))
        return written(descriptor, data, size);
    return real_write(descriptor, data, size);
}

#define PWRITE(name) \
    ssize_t name(int descriptor, const void *data, size_t size, off_t offset) { \
        find_pwrite(); \
        MAY_STRIKE("pwrite", counts_descriptor(descriptor, whole), 1); \
        return real_pwrite(descriptor, data, size, offset); \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t writev(int descriptor, const struct iovec *parts, int number) {
    find_writev();
    MAY_STRIKE("writev", counts_descriptor(descriptor, whole), 1);
    return real_writev(descriptor, parts, number);
}

int rename(const char *from, const char *to) {
    find_rename();
    MAY_STRIKE("rename", counts(AT_FDCWD, to, whole), 1);
    return real_rename(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    find_renameat();
    MAY_STRIKE("renameat", counts(to_folder, to, whole), 1);
    return real_renameat(from_folder, from, to_folder, to);
}

int unlink(const char *path) {
    find_unlink();
    MAY_STRIKE("unlink", counts(AT_FDCWD, path, whole), 0);
    return real_unlink(path);
}

int unlinkat(int folder, const char *path, int flags) {
    find_unlinkat();
    MAY_STRIKE("unlinkat", counts(folder, path, whole), 0);
    return real_unlinkat(folder, path, flags);
}

int rmdir(const char *path) {
    find_rmdir();
    MAY_STRIKE("rmdir", counts(AT_FDCWD, path, whole), 0);
    return real_rmdir(path);
}

int fsync(int descriptor) {
    find_fsync();
    MAY_STRIKE("fsync", counts_descriptor(descriptor, whole), 1);
    return real_fsync(descriptor);
}

int fdatasync(int descriptor) {
    find_fdatasync();
    MAY_STRIKE("fdatasync", counts_descriptor(descriptor, whole), 1);
    return real_fdatasync(descriptor);
}

int mkdir(const char *path, mode_t mode) {
    find_mkdir();
    MAY_STRIKE("mkdir", counts(AT_FDCWD, path, whole), 1);
    return real_mkdir(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode) {
    find_mkdirat();
    MAY_STRIKE("mkdirat", counts(folder, path, whole), 1);
    return real_mkdirat(folder, path, mode);
}

int link(const char *from, const char *to) {
    find_link();
    MAY_STRIKE("link", counts(AT_FDCWD, to, whole), 1);
    return real_link(from, to);
}

int symlink(const char *from, const char *to) {
    find_symlink();
    MAY_STRIKE("symlink", counts(AT_FDCWD, to, whole), 1);
    return real_symlink(from, to);
}

#define FTRUNCATE(name) \
    int name(int descriptor, off_t size) { \
        find_ftruncate(); \
        MAY_STRIKE("ftruncate", counts_descriptor(descriptor, whole), 1); \
        return real_ftruncate(descriptor, size); \
    }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

/* A network's file system tells at the close what it could not write; the descriptor is closed. */
int close(int descriptor) {
    char whole[PATH_MAX];
    find_close();
    int struck = 0;
    if (shared) {
        int flags = fcntl(descriptor, F_GETFL);
        if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && counts_descriptor(descriptor, whole))
            struck = strikes("close", whole, 1, 0);
    }
    int error = errno, result = real_close(descriptor);
    if (!struck) return result;
    errno = error;
    return -1;
}
