/* The ledger: who has taken how much, for any number of participants. */
#include "sync_check.h"

#include "transport/ledger.h"

struct owner {
    struct mpf_section_shm section;
    struct mpf_section_entry_shm log[4];
    struct mpf_ledger_shm ledger;
};

static struct owner *owner;
static struct mpf_ref ref;
static _Atomic int *stage;

static void destroy(struct mpf_arena *in, mpf_off off) {
    mpf_ledger_destroy(in, &((struct owner *)mpf_at(in, off))->ledger);
}

static void setup(void) {
    static const struct mpf_block_hooks hooks = {NULL, destroy};
    start();
    mpf_block_set_hooks(MPF_BLOCK_QUEUE, &hooks);
    owner = make(MPF_BLOCK_QUEUE, sizeof *owner, &ref);
    CHECK(!mpf_ledger_used(&owner->ledger));
    mpf_section_init(&owner->section, 4);
    mpf_ledger_init(&owner->ledger);
    CHECK(mpf_ledger_used(&owner->ledger));
    stage = check_shared(sizeof *stage);
}

static void add(uint32_t messages) {
    for (;;) {
        uint32_t seen;
        mpf_section_enter(arena, &owner->section);
        uint64_t *line = mpf_ledger_line(arena, &owner->ledger, &seen);
        if (line != NULL)
            mpf_ledger_add(arena, &owner->section, line, messages);
        mpf_section_leave(arena, &owner->section);
        if (line != NULL)
            return;
        CHECK_EQUAL(mpf_ledger_grow(arena, &owner->section, &owner->ledger, seen), 0);
    }
}

static void remove_one(void) {
    mpf_section_enter(arena, &owner->section);
    mpf_ledger_remove(arena, &owner->section, &owner->ledger);
    mpf_section_leave(arena, &owner->section);
}

static uint32_t clear(uint32_t who) {
    mpf_section_enter(arena, &owner->section);
    uint32_t messages = mpf_ledger_clear(arena, &owner->section, &owner->ledger, who);
    mpf_section_leave(arena, &owner->section);
    return messages;
}

static void test_one(void) {
    setup();
    add(3);
    add(2);
    remove_one();
    CHECK_EQUAL(clear(arena->self), 4);
    CHECK_EQUAL(clear(arena->self), 0);
    remove_one(); /* finished before anybody took it: nothing to take away */
    CHECK_EQUAL(clear(arena->self), 0);
    finish(&ref);
}

struct child {
    _Atomic uint32_t id;
};
static struct child *children;

static void take_and_die(void *index) {
    uint32_t messages = (uint32_t)(uintptr_t)index + 1;
    add(messages);
    atomic_store(&children[messages - 1].id, arena->self);
    atomic_fetch_add(stage, 1);
    raise(SIGKILL);
}

static void test_many(void) {
    pid_t pids[20];
    setup();
    children = check_shared(20 * sizeof *children);
    for (uintptr_t i = 0; i < 20; i++)
        pids[i] = check_fork(take_and_die, (void *)i);
    await_flag(stage, 20);
    for (int i = 0; i < 20; i++)
        CHECK_EQUAL(check_wait(pids[i]), -SIGKILL);
    for (uint32_t i = 0; i < 20; i++) {
        CHECK_EQUAL(clear(atomic_load(&children[i].id)), i + 1);
        CHECK_EQUAL(clear(atomic_load(&children[i].id)), 0);
    }
    while (mpf_participant_reap(arena) > 0)
        ;
    finish(&ref);
}

static void finish_for_parent(void *unused) {
    (void)unused;
    remove_one();
}

/* Whoever finishes what another took takes it off the other's line. */
static void test_finished_by_another(void) {
    setup();
    add(2);
    CHECK_EQUAL(check_wait(check_fork(finish_for_parent, NULL)), 0);
    CHECK_EQUAL(clear(arena->self), 1);
    finish(&ref);
}

CHECK_MAIN({"one", test_one}, {"many", test_many}, {"finished_by_another", test_finished_by_another})
