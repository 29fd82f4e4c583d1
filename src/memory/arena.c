/*
 * Purpose: creating the arena, finding that of others, making its pages real and giving them back.
 *
 * Layout: see layout.h. In private memory: the list of the arenas that this process has mapped, home first.
 *
 * States: none -> home (created, or the first one found) -> home and others. An arena is never unmapped.
 *
 * Invariants: the list only grows; a listed arena is mapped, verified, and this process is a participant of it. Pages of the
 * tables are committed before they are written and never given back; 'meta' remembers them.
 *
 * Callers: anyone, with no section held (committing blocks). The list's lock is taken around a fork, so that a child
 * never inherits it locked by a thread that it does not have.
 *
 * Death of the caller: while creating: nobody else knows the file yet. While committing: pages exist that 'meta' or
 * the bitmap do not know of; they are committed again later, which changes nothing.
 */
#define _GNU_SOURCE
#include "memory/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "memory/layout.h"
#include "memory/participant.h"
#include "platform/clock.h"
#include "platform/fault.h"
#include "platform/memfd.h"

#define DEFAULT_SIZE (UINT64_C(64) << 30)
#define LEAST_SIZE (UINT64_C(32) << 20)
#define REOPEN_PAUSE_NS 1000000000 /* looking through all processes takes milliseconds */
#define MOST_SIZE (UINT64_C(2) << 40)

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mpf_arena *_Atomic home;

pthread_mutex_t *mpf_arena_list_lock(void) { return &list_lock; }

struct mpf_arena *mpf_arena_list(void) { return atomic_load_explicit(&home, memory_order_acquire); }

struct mpf_arena *mpf_arena_home_if_any(void) { return mpf_arena_list(); }

/* Geometry: the tables take a place in front that depends on the size alone. */

static uint64_t align_up(uint64_t value, uint64_t unit) { return (value + unit - 1) & ~(unit - 1); }

static void set_geometry(struct mpf_header_shm *header, uint64_t size)
{
    uint64_t spans = size >> MPF_SPAN_SHIFT;
    header->size = size;
    header->span_count = (uint32_t)spans;
    header->slots_at = MPF_STATES_AT + MPF_SLOTS * sizeof(uint64_t);
    header->bitmap_at = header->slots_at + MPF_SLOTS * sizeof(struct mpf_slot_shm);
    header->spans_at = header->bitmap_at + align_up(spans / 8 + 1, MPF_PAGE_BYTES);
    header->meta_at = header->spans_at + align_up(spans * sizeof(struct mpf_span_shm), MPF_PAGE_BYTES);
    header->meta_bytes = align_up(header->meta_at / MPF_PAGE_BYTES / 8 + 1, MPF_PAGE_BYTES);
    uint64_t end = header->meta_at + header->meta_bytes;
    header->first_span = align_up(end, MPF_SPAN_BYTES) >> MPF_SPAN_SHIFT;
}

static _Atomic uint64_t *meta_word(const struct mpf_arena *arena, uint64_t page)
{
    return (_Atomic uint64_t *)mpf_at(arena, mpf_header(arena)->meta_at) + page / 64;
}

bool mpf_meta_ready(const struct mpf_arena *arena, mpf_off off, uint64_t bytes)
{
    for (uint64_t page = off / MPF_PAGE_BYTES; page <= (off + bytes - 1) / MPF_PAGE_BYTES; page++)
        /* Acquire: pairs with the release in mpf_meta_commit; the page is there before its bit. */
        if (!(atomic_load_explicit(meta_word(arena, page), memory_order_acquire) >> page % 64 & 1))
            return false;
    return true;
}

int mpf_meta_commit(struct mpf_arena *arena, mpf_off off, uint64_t bytes)
{
    if (mpf_meta_ready(arena, off, bytes))
        return 0;
    uint64_t first = off / MPF_PAGE_BYTES, last = (off + bytes - 1) / MPF_PAGE_BYTES;
    int rc = mpf_arena_commit(arena, first * MPF_PAGE_BYTES, (last - first + 1) * MPF_PAGE_BYTES);
    if (rc < 0)
        return rc;
    MPF_FAULT("arena.meta_committed");
    for (uint64_t page = first; page <= last; page++)
        atomic_fetch_or_explicit(meta_word(arena, page), UINT64_C(1) << page % 64, memory_order_release);
    return 0;
}

static uint64_t wished_size(void)
{
    const char *text = getenv("MPFAST_ARENA_SIZE");
    if (!text || !*text)
        return DEFAULT_SIZE;
    char *end;
    uint64_t size = strtoull(text, &end, 10);
    switch (*end) {
    case 'k': case 'K': size <<= 10; break;
    case 'm': case 'M': size <<= 20; break;
    case 'g': case 'G': size <<= 30; break;
    }
    return size < LEAST_SIZE ? LEAST_SIZE : size > MOST_SIZE ? MOST_SIZE : size;
}

static int random_id(unsigned char id[16])
{
    for (size_t done = 0; done < 16;) {
        ssize_t got = getrandom(id + done, 16 - done, 0);
        if (got < 0 && errno != EINTR)
            return -errno;
        done += got > 0 ? (size_t)got : 0;
    }
    return 0;
}

static int commit_first_tables(struct mpf_arena *arena)
{
    struct mpf_header_shm geometry;
    set_geometry(&geometry, arena->size);
    int rc = mpf_arena_commit(arena, 0, MPF_STATES_AT + MPF_PAGE_BYTES);
    if (rc == 0)
        rc = mpf_arena_commit(arena, geometry.meta_at, geometry.meta_bytes);
    if (rc < 0)
        return rc;
    set_geometry(mpf_header(arena), arena->size);
    rc = mpf_meta_commit(arena, 0, MPF_STATES_AT + MPF_PAGE_BYTES);
    if (rc == 0)
        rc = mpf_meta_commit(arena, geometry.slots_at, MPF_SLOTS_FIRST * sizeof(struct mpf_slot_shm));
    return rc;
}

static int initialise(struct mpf_arena *arena)
{
    int rc = commit_first_tables(arena);
    if (rc < 0)
        return rc;
    struct mpf_header_shm *header = mpf_header(arena);
    rc = random_id(header->id);
    if (rc < 0)
        return rc;
    memcpy(arena->id, header->id, sizeof arena->id);
    header->version = MPF_ARENA_VERSION;
    atomic_store_explicit(&header->slots_high, MPF_SLOTS_FIRST, memory_order_relaxed);
    mpf_section_init(mpf_arena_section(arena), MPF_ARENA_LOG);
    mpf_allocator(arena)->generation = (uint32_t)header->id[0] << 8 | 1;
    /* The free runs' entries lie at powers of two: only the pages under those are needed. */
    for (uint32_t order = 0; UINT64_C(1) << order < 2 * (uint64_t)header->span_count; order++) {
        uint64_t low = UINT64_C(1) << order;
        uint64_t tail = header->span_count & ~(low - 1);
        if (low < header->span_count && rc == 0)
            rc = mpf_meta_commit(arena, header->spans_at + low * sizeof(struct mpf_span_shm), sizeof(struct mpf_span_shm));
        if (tail < header->span_count && rc == 0)
            rc = mpf_meta_commit(arena, header->spans_at + tail * sizeof(struct mpf_span_shm),
                                 sizeof(struct mpf_span_shm));
    }
    if (rc == 0)
        rc = mpf_meta_commit(arena, header->spans_at,
                             2 * header->first_span * sizeof(struct mpf_span_shm));
    if (rc < 0)
        return rc;
    rc = mpf_participant_join(arena);
    if (rc < 0)
        return rc;
    mpf_section_enter(arena, mpf_arena_section(arena));
    mpf_span_init(arena);
    mpf_section_leave(arena, mpf_arena_section(arena));
    MPF_FAULT("arena.initialised");
    header->magic = MPF_ARENA_MAGIC;
    return 0;
}

static struct mpf_arena_view *new_view(const struct mpf_memfd *file)
{
    struct mpf_arena_view *view = calloc(1, sizeof *view);
    if (view) {
        view->file = *file;
        view->arena.base = file->base;
        view->arena.size = file->size;
        view->arena.fd = file->fd;
    }
    return view;
}

static void append(struct mpf_arena *arena)
{
    struct mpf_arena *last = mpf_arena_list();
    if (!last) {
        /* Release: pairs with the acquire in mpf_arena_list. */
        atomic_store_explicit(&home, arena, memory_order_release);
        return;
    }
    while (last->next)
        last = last->next;
    __atomic_store_n(&last->next, arena, __ATOMIC_RELEASE);
}

static int create_home(struct mpf_arena **arena)
{
    struct mpf_memfd file;
    int rc = mpf_fork_install();
    if (rc == 0)
        rc = mpf_memfd_create(wished_size(), LEAST_SIZE, &file);
    if (rc < 0)
        return rc;
    struct mpf_arena_view *view = new_view(&file);
    rc = view ? initialise(&view->arena) : -ENOMEM;
    if (rc < 0) {
        free(view);
        mpf_memfd_close(&file);
        return rc;
    }
    append(&view->arena);
    *arena = &view->arena;
    return 0;
}

int mpf_arena_home(struct mpf_arena **arena)
{
    *arena = mpf_arena_list();
    if (*arena)
        return 0;
    pthread_mutex_lock(&list_lock);
    *arena = mpf_arena_list();
    int rc = *arena ? 0 : create_home(arena);
    pthread_mutex_unlock(&list_lock);
    return rc;
}

/* Finding. */

static struct mpf_arena *find_mapped(const unsigned char id[16])
{
    struct mpf_arena *arena = mpf_arena_list();
    while (arena && memcmp(arena->id, id, 16) != 0)
        arena = __atomic_load_n(&arena->next, __ATOMIC_ACQUIRE);
    return arena;
}

static bool has_id(int fd, const unsigned char id[16])
{
    struct mpf_header_shm header;
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & F_SEAL_SHRINK) && pread(fd, &header, sizeof header, 0) == (ssize_t)sizeof header &&
           header.magic == MPF_ARENA_MAGIC && memcmp(header.id, id, 16) == 0;
}

static bool accept_id(int fd, void *id) { return has_id(fd, id); }

/* A descriptor of the arena with this id, the caller's to close. */
static int open_by_id(const unsigned char id[16], int fd, int32_t hint_pid, int hint_fd)
{
    if (fd >= 0)
        return has_id(fd, id) ? fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1) : -ENOENT;
    int remote = mpf_memfd_open_remote(hint_pid, hint_fd);
    if (remote >= 0) {
        if (has_id(remote, id))
            return remote;
        close(remote);
    }
    return mpf_memfd_search(accept_id, (void *)(uintptr_t)id);
}

static int adopt(int fd, struct mpf_arena **arena)
{
    struct mpf_memfd file;
    int rc = mpf_fork_install();
    if (rc == 0)
        rc = mpf_memfd_adopt(fd, &file);
    if (rc < 0)
        return rc;
    struct mpf_arena_view *view = new_view(&file);
    if (!view) {
        rc = -ENOMEM;
        goto fail;
    }
    struct mpf_header_shm *header = mpf_header(&view->arena);
    if (header->version != MPF_ARENA_VERSION || header->size != file.size) {
        rc = -EPROTO;
        goto fail;
    }
    memcpy(view->arena.id, header->id, 16);
    rc = mpf_participant_join(&view->arena);
    if (rc < 0)
        goto fail;
    append(&view->arena);
    *arena = &view->arena;
    return 0;
fail:
    free(view);
    mpf_memfd_close(&file);
    return rc;
}

int mpf_arena_find(const unsigned char id[16], int fd, int32_t hint_pid, int hint_fd, struct mpf_arena **arena)
{
    *arena = find_mapped(id);
    if (*arena)
        return 0;
    int rc = 0;
    pthread_mutex_lock(&list_lock);
    *arena = find_mapped(id);
    if (!*arena) {
        rc = open_by_id(id, fd, hint_pid, hint_fd);
        if (rc >= 0) {
            int found = rc;
            rc = adopt(found, arena);
            close(found);
        }
    }
    pthread_mutex_unlock(&list_lock);
    return rc;
}

/* The descriptor, which the program may have closed: others have the file open too. */

static int reopen(struct mpf_arena *arena)
{
    const struct mpf_header_shm *header = mpf_header(arena);
    uint32_t high = atomic_load_explicit(&header->slots_high, memory_order_relaxed);
    for (uint32_t slot = 0; slot < high; slot++) {
        uint64_t state = atomic_load_explicit(mpf_slot_state(arena, slot), memory_order_acquire);
        if (mpf_state_status(state) != MPF_SLOT_LIVE)
            continue;
        int32_t pid = atomic_load_explicit(&mpf_slot(arena, slot)->pid, memory_order_relaxed);
        int fd = mpf_memfd_open_remote(pid, arena->fd);
        if (fd >= 0 && has_id(fd, arena->id))
            return fd;
        if (fd >= 0)
            close(fd);
    }
    return mpf_memfd_search(accept_id, arena->id);
}

static pthread_mutex_t reopening = PTHREAD_MUTEX_INITIALIZER;

void mpf_arena_after_fork(void) { pthread_mutex_init(&reopening, NULL); }

int mpf_arena_descriptor(struct mpf_arena *arena)
{
    struct mpf_arena_view *view = mpf_view(arena);
    pthread_mutex_lock(&reopening);
    int rc = -ENOENT;
    if (mpf_memfd_intact(&view->file))
        rc = view->file.fd;
    else if (mpf_clock_now() >= view->reopen_after)
        rc = reopen(arena);
    if (rc >= 0 && rc != view->file.fd) /* others may be reading it */
        arena->fd = view->file.fd = rc;
    else if (rc < 0 && mpf_clock_now() >= view->reopen_after)
        view->reopen_after = mpf_clock_now() + REOPEN_PAUSE_NS;
    pthread_mutex_unlock(&reopening);
    return rc;
}

int mpf_arena_commit(struct mpf_arena *arena, mpf_off off, uint64_t bytes)
{
    struct mpf_arena_view *view = mpf_view(arena);
    if (off > arena->size || bytes > arena->size - off)
        return -ENOMEM;
    bool intact = mpf_arena_descriptor(arena) >= 0;
    int rc = mpf_memfd_commit(&view->file, intact, off, bytes);
    return rc == -ENOSPC ? -ENOMEM : rc;
}

void mpf_arena_release(struct mpf_arena *arena, mpf_off off, uint64_t bytes)
{
    struct mpf_arena_view *view = mpf_view(arena);
    mpf_memfd_punch(&view->file, mpf_arena_descriptor(arena) >= 0, off, bytes);
}
