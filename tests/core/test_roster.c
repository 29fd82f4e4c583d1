/* Rosters: entries are set aside one by one, in parts that are added, and used again. */
#include "engine_check.h"

static struct mpf_ref ref;
static struct mpf_roster_shm *roster;

static void roster_destroy(struct mpf_arena *of, mpf_off off) { mpf_roster_destroy(of, mpf_at(of, off)); }

static void setup(void) {
    static const struct mpf_block_hooks hooks = {NULL, roster_destroy};
    mpf_block_set_hooks(MPF_BLOCK_POOL, &hooks);
    start();
    roster = make(MPF_BLOCK_POOL, sizeof *roster, &ref);
}

static uint32_t reserve(void) {
    uint32_t slot;
    CHECK_EQUAL(mpf_roster_reserve(arena, roster, &slot), 0);
    CHECK_EQUAL(atomic_load(&mpf_roster_at(arena, roster, slot)->state), MPF_ROSTER_STARTING);
    return slot;
}

static void test_entries_do_not_overlap(void) {
    setup();
    CHECK_EQUAL(mpf_roster_count(roster), 0);
    for (uint32_t slot = 0; slot < 500; slot++) {
        CHECK_EQUAL(reserve(), slot);
        CHECK(mpf_roster_count(roster) > slot);
        CHECK_EQUAL((uintptr_t)mpf_roster_at(arena, roster, slot) % 64, 0);
        atomic_store(&mpf_roster_at(arena, roster, slot)->intent, slot + 1);
    }
    for (uint32_t slot = 0; slot < 500; slot++) {
        CHECK_EQUAL(atomic_load(&mpf_roster_at(arena, roster, slot)->intent), slot + 1);
        CHECK_EQUAL(mpf_lane_count(&mpf_roster_at(arena, roster, slot)->results), 0);
    }
    finish(&ref);
}

static void test_released_ones_come_first(void) {
    setup();
    for (int i = 0; i < 20; i++)
        reserve();
    struct mpf_roster_entry_shm *entry = mpf_roster_at(arena, roster, 5);
    atomic_store(&entry->participant, 9);
    atomic_store(&entry->dismissed, 1);
    mpf_roster_release(entry);
    CHECK_EQUAL(reserve(), 5);
    CHECK_EQUAL(atomic_load(&entry->participant), 0);
    CHECK_EQUAL(atomic_load(&entry->dismissed), 0);
    CHECK_EQUAL(reserve(), 20);
    finish(&ref);
}

/* What stands in a lane survives its entry's being released and set aside again. */
static void test_lanes_last(void) {
    struct mpf_lane_message message = {.data = "x", .bytes = 1};
    setup();
    struct mpf_roster_entry_shm *entry = mpf_roster_at(arena, roster, reserve());
    CHECK_EQUAL(mpf_lane_put(arena, &entry->results, &message, NULL, NULL), 0);
    mpf_roster_release(entry);
    CHECK_EQUAL(reserve(), 0);
    CHECK_EQUAL(mpf_lane_count(&entry->results), 1);
    finish(&ref);
}

#ifdef MPF_DEBUG
static void reserve_and_die(void *fault) {
    struct mpf_ref mine;
    uint32_t slot;
    CHECK_EQUAL(mpf_block_alloc(arena, sizeof *roster, MPF_BLOCK_POOL, &mine), 0);
    die_at((const char *)fault + sizeof(int), *(int *)fault);
    for (int i = 0; i < 30; i++)
        CHECK_EQUAL(mpf_roster_reserve(arena, mpf_at(arena, mine.off), &slot), 0);
    mpf_block_unref(&mine);
}

static void test_kill_the_parent(void) {
    static const char *const points[] = {"roster.allocated", "roster.owned", "roster.lane_made", "roster.destroy.part",
                                         "block.put", "block.alloc", "block.replace"};
    struct {
        int nth;
        char point[60];
    } fault;
    setup();
    mpf_block_unref(&ref);
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (fault.nth = 1; fault.nth < 20; fault.nth = fault.nth * 2 + 1) {
            int kills = 0;
            snprintf(fault.point, sizeof fault.point, "%s", points[p]);
            int status = check_wait(check_fork(reserve_and_die, &fault));
            CHECK(status == -SIGKILL || status == 0);
            kills += status != 0;
            CHECK(kills > 0 || fault.nth > 1);
            finish(&ref);
        }
}
#endif

CHECK_MAIN({"entries_do_not_overlap", test_entries_do_not_overlap},
           {"released_ones_come_first", test_released_ones_come_first}, {"lanes_last", test_lanes_last},
#ifdef MPF_DEBUG
           {"kill_the_parent", test_kill_the_parent},
#endif
)
