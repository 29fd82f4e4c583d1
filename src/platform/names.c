/*
 * Purpose: to know the names of shared memory that a program has made, with no system call for each. The resource tracker, a process
 * that outlives all others of the program, reads the table once, when they have ended, and unlinks what is left.
 *
 * Layout: a memory file, mapped by who started the tracker and by what that forks; the tracker has it as a descriptor
 * (_tracker_main.py reads this layout, too):
 *
 *     0          8192                        65536
 *     | inodes   | names, 56 bytes each      | high |
 *
 * States of a place, by its inode number:   0 free -> 1 taken -> the file's: live -> 0
 *
 * Invariants: a live place's name does not change. A file has its inode number for itself, so who finds one at a place,
 * compares the name, and swaps that number for 0 has taken away the name it compared. A live place says that a file was
 * made; only the file system knows whether it is there still: a file of that name with that number.
 *
 * Callers: any thread of any process with the table; nothing waits.
 *
 * Death of the caller: before a place is live, the name is not in the table, as if the process had been killed before it
 * asked; a place that stays taken is lost until the program ends. Otherwise one store decides.
 */
#define _GNU_SOURCE
#include "platform/names.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/fault.h"

#define TAKEN 1

_Static_assert(offsetof(struct mpf_names_shm, names) == 8192 && offsetof(struct mpf_names_shm, high) == 65536,
               "_tracker_main.py knows the layout");

int mpf_names_create(struct mpf_names_shm **names)
{
    int rc = MPF_FAULT_ERROR("names.create");
    if (rc < 0)
        return rc;
    int fd = memfd_create("names of shared memory", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    void *base = MAP_FAILED;
    /* Real pages, so that no store to them can fail. */
    if (fallocate(fd, 0, 0, sizeof **names) == 0)
        base = mmap(NULL, sizeof **names, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        rc = -errno;
        close(fd);
        return rc;
    }
    *names = base;
    return fd;
}

void mpf_names_unmap(struct mpf_names_shm *names) { munmap(names, sizeof *names); }

/* The name as words, zeros behind it. False: it is none for this table. */
static bool pack(const char *name, uint64_t words[MPF_NAMES_WORDS])
{
    size_t length = strnlen(name, MPF_NAMES_BYTES);
    for (size_t i = 0; i < length; i++)
        if (name[i] <= ' ' || name[i] > '~' || name[i] == ':')
            return false;
    if (length == 0 || length == MPF_NAMES_BYTES)
        return false;
    memset(words, 0, MPF_NAMES_BYTES);
    memcpy(words, name, length);
    return true;
}

/* Words are read while somebody writes them, who has had the place from somebody else: then the number is another. */
static bool is_same(struct mpf_names_shm *names, uint32_t place, const uint64_t words[MPF_NAMES_WORDS])
{
    for (int i = 0; i < MPF_NAMES_WORDS; i++)
        if (atomic_load_explicit(&names->names[place][i], memory_order_relaxed) != words[i])
            return false;
    return true;
}

/* So many places have to be looked at by who searches. */
static void raise_high(struct mpf_names_shm *names, uint32_t wish)
{
    uint32_t high = atomic_load_explicit(&names->high, memory_order_relaxed);
    while (high < wish && !atomic_compare_exchange_weak_explicit(&names->high, &high, wish, memory_order_relaxed,
                                                                 memory_order_relaxed))
        ;
}

int mpf_names_note(struct mpf_names_shm *names, const char *name, uint64_t inode)
{
    uint64_t words[MPF_NAMES_WORDS];
    if (inode <= TAKEN || !pack(name, words))
        return -EINVAL;
    for (uint32_t i = 0; i < MPF_NAMES_COUNT; i++) {
        uint64_t free = 0;
        if (atomic_load_explicit(&names->inodes[i], memory_order_relaxed) != 0 ||
            /* Acquire: pairs with the release of mpf_names_forget(), whose comparison is over before the name changes. */
            !atomic_compare_exchange_strong_explicit(&names->inodes[i], &free, TAKEN, memory_order_acquire,
                                                     memory_order_relaxed))
            continue;
        MPF_FAULT("names.taken");
        for (int word = 0; word < MPF_NAMES_WORDS; word++)
            atomic_store_explicit(&names->names[i][word], words[word], memory_order_relaxed);
        raise_high(names, i + 1);
        MPF_FAULT("names.named");
        /* Release: pairs with the acquire of mpf_names_forget(), which reads the name. */
        atomic_store_explicit(&names->inodes[i], inode, memory_order_release);
        MPF_FAULT("names.noted");
        return 0;
    }
    return -ENOSPC;
}

bool mpf_names_forget(struct mpf_names_shm *names, const char *name)
{
    uint64_t words[MPF_NAMES_WORDS];
    bool found = false;
    if (!pack(name, words))
        return false;
    uint32_t high = atomic_load_explicit(&names->high, memory_order_relaxed);
    if (high > MPF_NAMES_COUNT) /* anybody may have written there */
        high = MPF_NAMES_COUNT;
    for (uint32_t i = 0; i < high; i++) {
        uint64_t inode = atomic_load_explicit(&names->inodes[i], memory_order_acquire);
        if (inode <= TAKEN || !is_same(names, i, words))
            continue;
        MPF_FAULT("names.found");
        /* Release: pairs with the acquire of mpf_names_note(). It fails where somebody else was first. */
        if (atomic_compare_exchange_strong_explicit(&names->inodes[i], &inode, 0, memory_order_release,
                                                    memory_order_relaxed))
            found = true;
    }
    return found;
}

bool mpf_names_is_read(int pipe)
{
    struct pollfd end = {.fd = pipe};
    return pipe >= 0 && poll(&end, 1, 0) == 0;
}
