/* Lists of references: indices that stay, free entries that are used again, copies. */
#include "check.h"

#include "memory/layout.h"
#include "memory/participant.h"

static struct mpf_arena *arena;
static uint32_t self;

static void start(void)
{
    CHECK_EQUAL(mpf_arena_home(&arena), 0);
    self = mpf_slot_of(arena->self);
}

static uint32_t add(uint64_t entry)
{
    for (;;) {
        uint32_t index;
        mpf_arena_enter(arena);
        int rc = mpf_reference_add(arena, self, entry, &index);
        mpf_arena_leave(arena);
        if (rc == 0)
            return index;
        CHECK_EQUAL(rc, -EAGAIN);
        CHECK_EQUAL(mpf_reference_grow(arena, self), 0);
    }
}

static void drop(uint32_t index)
{
    mpf_arena_enter(arena);
    mpf_reference_remove(arena, self, index);
    mpf_arena_leave(arena);
}

static void test_entry(void)
{
    uint64_t entry = mpf_entry(MPF_ENTRY_TICKET, 0xabcdef, UINT64_C(0x1ffffffffe0));
    CHECK_EQUAL(mpf_entry_kind(entry), MPF_ENTRY_TICKET);
    CHECK_EQUAL(mpf_entry_nonce(entry), 0xabcdef);
    CHECK_EQUAL(mpf_entry_off(entry), UINT64_C(0x1ffffffffe0));
}

static void test_indices(void)
{
    enum { MANY = 70000 };
    start();
    CHECK(mpf_reference_at(arena, self, 0) == NULL);
    for (uint32_t i = 0; i < MANY; i++)
        CHECK_EQUAL(add(mpf_entry(MPF_ENTRY_TICKET, i, 0)), i);
    CHECK(mpf_reference_at(arena, self, MANY) == NULL);
    for (uint32_t i = 0; i < MANY; i++)
        CHECK_EQUAL(mpf_entry_nonce(*mpf_reference_at(arena, self, i)), i);
    for (uint32_t i = 0; i < MANY; i += 2)
        drop(i);
    for (uint32_t i = 0; i < MANY / 2; i++)
        CHECK(add(mpf_entry(MPF_ENTRY_TICKET, i, 0)) < MANY); /* a free one before a new one */
    for (uint32_t i = 0; i < MANY; i++)
        drop(i);
    mpf_block_check(arena);
}

static void test_list_is_freed_whole(void)
{
    struct mpf_block_stats before, after;
    start();
    mpf_block_stats(arena, &before);
    for (uint32_t i = 0; i < 5000; i++)
        add(mpf_entry(MPF_ENTRY_TICKET, i, 0));
    for (uint32_t i = 0; i < 5000; i++)
        drop(i);
    mpf_reference_free_list(arena, self);
    mpf_block_check(arena);
    mpf_block_stats(arena, &after);
    CHECK_EQUAL(after.bytes, before.bytes);
    CHECK(mpf_reference_at(arena, self, 0) == NULL);
    CHECK_EQUAL(add(mpf_entry(MPF_ENTRY_TICKET, 1, 0)), 0);
    drop(0);
}

static void test_copy(void)
{
    struct mpf_ref refs[900];
    uint32_t other;
    start();
    for (int i = 0; i < 900; i++)
        CHECK_EQUAL(mpf_block_alloc(arena, 16, MPF_BLOCK_RAW, &refs[i]), 0);
    for (int i = 0; i < 900; i += 4)
        mpf_block_unref(&refs[i]);
    uint32_t ticket = add(mpf_entry(MPF_ENTRY_TICKET, 5, refs[1].off));
    CHECK_EQUAL(mpf_slot_claim(arena, MPF_SLOT_COPYING, arena->self, &other), 0);
    other = mpf_slot_of(other);
    CHECK_EQUAL(mpf_reference_copy(arena, self, other), 0);
    for (uint32_t i = 0; i < 900; i++) {
        uint64_t mine = *mpf_reference_at(arena, self, i), theirs = *mpf_reference_at(arena, other, i);
        if (i == ticket || mpf_entry_kind(mine) == MPF_ENTRY_FREE)
            CHECK_EQUAL(mpf_entry_kind(theirs), MPF_ENTRY_FREE);
        else
            CHECK_EQUAL(theirs, mine);
    }
    drop(ticket);
    mpf_reap_abandoned(arena, other, atomic_load(mpf_slot_state(arena, other)));
    mpf_block_check(arena);
    for (int i = 0; i < 900; i++)
        mpf_block_unref(&refs[i]);
    mpf_block_check(arena);
}

CHECK_MAIN({"entry", test_entry}, {"indices", test_indices}, {"list_is_freed_whole", test_list_is_freed_whole},
           {"copy", test_copy})
