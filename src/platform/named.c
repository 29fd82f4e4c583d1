/*
 * Purpose: the system calls behind memory that has a name.
 *
 * Layout: what is in the file is its users' business.
 *
 * States of a new file: open -> committed -> mapped; whoever fails goes back to nothing.
 *
 * Invariants: a name that is made here was nobody's at that moment. Processes draw their names independently of each other, a forked
 * child too.
 *
 * Callers: any thread, holding nothing.
 *
 * Death of the caller: the file stays, with its name: the caller's caller has somebody know of it (platform/names.c).
 */
#define _GNU_SOURCE
#include "platform/named.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/fault.h"
#include "platform/process.h"

/* Some more random bits: the kernel is asked for many at a time, and by a forked child anew. 0 or -errno. */
static int draw(uint32_t *number)
{
    static _Thread_local uint32_t numbers[16], left, forks;
    if (left == 0 || forks != mpf_process_forks) {
        if (getrandom(numbers, sizeof numbers, 0) != (ssize_t)sizeof numbers)
            return -errno;
        forks = mpf_process_forks;
        left = sizeof numbers / sizeof *numbers;
    }
    *number = numbers[--left];
    return 0;
}

/* By hand: printing it takes a hundredth of what making the memory takes. */
static void write_name(char *name, uint32_t number)
{
    memcpy(name, "/psm_", 5);
    for (int i = 0; i < 8; i++)
        name[5 + i] = "0123456789abcdef"[number >> (28 - 4 * i) & 15];
    name[13] = 0;
}

static int open_new(struct mpf_named *named, mode_t mode)
{
    uint32_t number = 0;
    int rc;
    do {
        rc = draw(&number);
        if (rc < 0)
            return rc;
        write_name(named->name, number);
        named->fd = shm_open(named->name, O_CREAT | O_EXCL | O_RDWR, mode);
        rc = named->fd < 0 ? -errno : 0;
    } while (rc == -EEXIST);
    return rc;
}

int mpf_named_commit(int fd, off_t bytes)
{
    int error = -MPF_FAULT_ERROR("named.commit");
    if (error == 0)
        error = posix_fallocate(fd, 0, bytes);
    if (error == EOPNOTSUPP || error == ENOSYS)
        error = ftruncate(fd, bytes) < 0 ? errno : 0;
    return -error;
}

int mpf_named_map(struct mpf_named *named)
{
    struct stat status;
    named->base = NULL;
    if (fstat(named->fd, &status) < 0)
        return -errno;
    named->bytes = (size_t)status.st_size;
    named->inode = status.st_ino;
    if (named->bytes == 0)
        return 0;
    void *base = mmap(NULL, named->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, named->fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    named->base = base;
    return 0;
}

void mpf_named_discard(const struct mpf_named *named)
{
    shm_unlink(named->name);
    close(named->fd);
}

int mpf_named_create(struct mpf_named *named, mode_t mode, off_t bytes)
{
    int rc = open_new(named, mode);
    if (rc < 0)
        return rc;
    rc = mpf_named_commit(named->fd, bytes);
    if (rc == 0)
        rc = mpf_named_map(named);
    if (rc < 0)
        mpf_named_discard(named);
    return rc;
}
