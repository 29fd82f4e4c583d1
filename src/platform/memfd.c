/*
 * Purpose: the one kind of file behind shared memory: an anonymous, sealed memfd, mapped once, sparse.
 *
 * Layout: the callers'. The file's size is address space only; pages exist where committed.
 *
 *     0                committed                     size
 *     |######################....####...................|      '.' holes: no page, read as zero, must not be written
 *
 * States of a page: hole -> committed (mpf_memfd_commit) -> hole (mpf_memfd_punch).
 *
 * Invariants: size never changes (sealed), so no access within the mapping is ever beyond the end of the file. A store
 * to a hole would make the kernel find a page at that moment and raise SIGBUS where there is none; hence committing first.
 * The descriptor may be closed, or its number given to another file, by the program around us: file->device and
 * file->inode say what it must be; the mapping itself cannot be lost.
 *
 * Callers: memory/arena.c; never in a section (every call here may block).
 *
 * Death of the caller: commit and punch work page by page and may be left half done; both may be repeated.
 */
#define _GNU_SOURCE
#include "platform/memfd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/budget.h"
#include "platform/fault.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define STEP (UINT64_C(16) << 20) /* commit in steps: a signal may interrupt each, and each must get done */
#define UNASKED (UINT64_C(8) << 20) /* what a process commits before it asks again how much memory there is */
#define RESERVE (2 * UNASKED)       /* so much has to be left after what was asked for: others commit, too */
#define LINK_PREFIX "/memfd:" MPF_MEMFD_NAME

static int open_memfd(void)
{
    int fd = memfd_create(MPF_MEMFD_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* kernels before 6.3 */
        fd = memfd_create(MPF_MEMFD_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (fd > STDERR_FILENO)
        return fd;
    /* A program that was started without standard streams must not print into shared memory. */
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int rc = moved < 0 ? -errno : moved;
    close(fd);
    return rc;
}

static uint64_t limit_size(uint64_t wish)
{
    struct rlimit limit;
    /* Growing a file past this limit raises a signal that kills by default; stay below. */
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < wish)
        wish = limit.rlim_cur;
    return wish & ~UINT64_C(0xffff);
}

static int map_file(struct mpf_memfd *file)
{
    void *base = mmap(NULL, file->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file->fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    file->base = base;
    return 0;
}

static int identify(struct mpf_memfd *file, struct stat *st)
{
    if (fstat(file->fd, st) < 0)
        return -errno;
    file->device = st->st_dev;
    file->inode = st->st_ino;
    return 0;
}

int mpf_memfd_create(uint64_t wish, uint64_t least, struct mpf_memfd *file)
{
    struct stat st;
    int rc = MPF_FAULT_ERROR("memfd.create");
    if (rc < 0)
        return rc;
    file->base = NULL;
    file->fd = open_memfd();
    if (file->fd < 0)
        return file->fd;
    rc = -ENOMEM;
    for (file->size = limit_size(wish); file->size >= least; file->size = file->size / 2 & ~UINT64_C(0xffff)) {
        rc = ftruncate(file->fd, (off_t)file->size) < 0 ? -errno : map_file(file);
        if (rc == 0 || (rc != -ENOMEM && rc != -EFBIG && rc != -EINVAL))
            break;
    }
    if (file->size < least)
        rc = -ENOMEM;
    if (rc < 0)
        goto fail;
    if (fchmod(file->fd, 0600) < 0 || fcntl(file->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        rc = -errno;
        goto fail;
    }
    rc = identify(file, &st);
    if (rc < 0)
        goto fail;
    return 0;
fail:
    mpf_memfd_close(file);
    return rc;
}

int mpf_memfd_adopt(int fd, struct mpf_memfd *file)
{
    struct stat st;
    file->base = NULL;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0)
        return errno == EBADF ? -EBADF : -EINVAL;
    if (!(seals & F_SEAL_SHRINK))
        return -EINVAL;
    file->fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (file->fd < 0)
        return -errno;
    int rc = identify(file, &st);
    if (rc == 0) {
        file->size = (uint64_t)st.st_size;
        rc = file->size ? map_file(file) : -EINVAL;
    }
    if (rc < 0)
        mpf_memfd_close(file);
    return rc;
}

void mpf_memfd_close(struct mpf_memfd *file)
{
    if (file->base)
        munmap(file->base, file->size);
    if (file->fd >= 0)
        close(file->fd);
    file->base = NULL;
    file->fd = -1;
}

bool mpf_memfd_intact(const struct mpf_memfd *file)
{
    struct stat st;
    return file->fd >= 0 && fstat(file->fd, &st) == 0 && (uint64_t)st.st_dev == file->device &&
           (uint64_t)st.st_ino == file->inode;
}

static int open_if_ours(const char *path)
{
    char target[sizeof LINK_PREFIX + 16];
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 0)
        return -errno;
    target[length] = '\0';
    if (strncmp(target, LINK_PREFIX, sizeof LINK_PREFIX - 1) != 0)
        return -ENOENT;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int mpf_memfd_open_remote(int32_t pid, int remote)
{
    char path[64];
    if (pid <= 0 || remote < 0)
        return -ENOENT;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, remote);
    return open_if_ours(path);
}

static int search_process(const char *pid, bool (*accept)(int, void *), void *context)
{
    char path[600];
    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    DIR *descriptors = opendir(path);
    if (!descriptors)
        return -ENOENT;
    int found = -ENOENT;
    for (struct dirent *entry; found < 0 && (entry = readdir(descriptors)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%.20s/fd/%s", pid, entry->d_name);
        int fd = open_if_ours(path);
        if (fd < 0)
            continue;
        if (accept(fd, context))
            found = fd;
        else
            close(fd);
    }
    closedir(descriptors);
    return found;
}

int mpf_memfd_search(bool (*accept)(int fd, void *context), void *context)
{
    DIR *processes = opendir("/proc");
    if (!processes)
        return -ENOENT;
    int found = -ENOENT;
    for (struct dirent *entry; found < 0 && (entry = readdir(processes)) != NULL;)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            found = search_process(entry->d_name, accept, context);
    closedir(processes);
    return found;
}

/* Without a descriptor: touching the pages through the mapping finds them just as well, with an error if there are none. */
static int populate(const struct mpf_memfd *file, uint64_t offset, uint64_t bytes)
{
    return madvise(file->base + offset, bytes, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
}

static int commit_step(const struct mpf_memfd *file, bool intact, uint64_t offset, uint64_t bytes)
{
    int rc;
    do {
        if (intact)
            rc = fallocate(file->fd, 0, (off_t)offset, (off_t)bytes) < 0 ? -errno : 0;
        else
            rc = populate(file, offset, bytes);
    } while (rc == -EINTR || rc == -EAGAIN);
    if (rc == -EFAULT || rc == -EHWPOISON)
        rc = -ENOMEM;
    if (rc == 0 && intact)
        (void)populate(file, offset, bytes); /* saves a fault per page; the pages exist with or without it */
    return rc;
}

/* Asking takes long, so not every small commitment does. Once the answer was no, each one asks. */
static bool is_affordable(uint64_t bytes)
{
    static _Atomic uint64_t unasked; /* committed since the last yes */
    uint64_t now = atomic_fetch_add_explicit(&unasked, bytes, memory_order_relaxed) + bytes;
    if (now < UNASKED)
        return true;
    uint64_t available = mpf_budget_available("");
    if (available < RESERVE || available - RESERVE < bytes) {
        atomic_store_explicit(&unasked, UNASKED, memory_order_relaxed);
        return false;
    }
    atomic_store_explicit(&unasked, 0, memory_order_relaxed);
    return true;
}

int mpf_memfd_commit(const struct mpf_memfd *file, bool intact, uint64_t offset, uint64_t bytes)
{
    int rc = MPF_FAULT_ERROR("memfd.commit");
    if (rc == 0 && !is_affordable(bytes))
        rc = -ENOMEM;
    for (uint64_t done = 0; rc == 0 && done < bytes; done += STEP)
        rc = commit_step(file, intact, offset + done, bytes - done < STEP ? bytes - done : STEP);
    return rc;
}

void mpf_memfd_punch(const struct mpf_memfd *file, bool intact, uint64_t offset, uint64_t bytes)
{
    MPF_FAULT("memfd.punch");
    if (!intact ||
        fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes) < 0)
        if (madvise(file->base + offset, bytes, MADV_REMOVE) < 0)
            memset(file->base + offset, 0, bytes); /* the promise is that it reads as zero */
}
