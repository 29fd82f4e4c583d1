/* Growing tables: entries stay where they are, parts are freed with the structure, no kill loses one. */
#include "sync_check.h"

#include "sync/table.h"

struct host {
    struct mpf_table_shm table;
    uint64_t entries[2];
    struct mpf_section_shm section;
    struct mpf_section_entry_shm log[4];
};

static struct host *host;
static struct mpf_ref ref;

static void setup(void) {
    start();
    host = make(MPF_BLOCK_RAW, sizeof *host, &ref);
    mpf_table_init(&host->table, 2, sizeof(uint64_t));
    mpf_section_init(&host->section, 4);
}

static int grow(void) {
    return mpf_table_grow(arena, &host->section, &host->table, mpf_table_capacity(arena, &host->table));
}

static void test_grows_in_place(void) {
    uint64_t *where[256];
    setup();
    while (mpf_table_capacity(arena, &host->table) < 200)
        CHECK_EQUAL(grow(), 0);
    uint32_t capacity = mpf_table_capacity(arena, &host->table);
    for (uint32_t i = 0; i < 200; i++) {
        where[i] = mpf_table_at(arena, &host->table, i);
        CHECK(where[i] != NULL);
        *where[i] = i + 1;
    }
    CHECK(mpf_table_at(arena, &host->table, capacity) == NULL);
    CHECK_EQUAL(grow(), 0);
    for (uint32_t i = 0; i < 200; i++) {
        CHECK(mpf_table_at(arena, &host->table, i) == where[i]);
        CHECK_EQUAL(*where[i], i + 1);
    }
    mpf_table_destroy(arena, &host->table);
    CHECK_EQUAL(mpf_table_capacity(arena, &host->table), 2);
    finish(&ref);
}

static void test_grown_by_another_meanwhile(void) {
    setup();
    uint32_t seen = mpf_table_capacity(arena, &host->table);
    CHECK_EQUAL(grow(), 0);
    uint32_t capacity = mpf_table_capacity(arena, &host->table);
    CHECK(capacity > seen);
    CHECK_EQUAL(mpf_table_grow(arena, &host->section, &host->table, seen), 0);
    CHECK_EQUAL(mpf_table_capacity(arena, &host->table), capacity);
    mpf_table_destroy(arena, &host->table);
    finish(&ref);
}

#ifdef MPF_DEBUG
static const char *point;
static bool destroys;

static void work_and_die(void *unused) {
    (void)unused;
    die_at(point, 1);
    if (destroys)
        mpf_table_destroy(arena, &host->table);
    else
        (void)grow();
}

static void test_killed(void) {
    static const char *points[] = {"table.allocated", "table.put", "table.taken", "section.logged", "section.set",
                                   "section.commit", "section.committed", "section.left"};
    setup();
    for (int second = 0; second < 2; second++)
        for (size_t p = 0; p < COUNT_OF(points); p++) {
            if (second)
                CHECK_EQUAL(grow(), 0);
            point = points[p];
            destroys = second;
            check_wait(check_fork(work_and_die, NULL));
            while (mpf_participant_reap(arena) > 0)
                ;
            CHECK_EQUAL(grow(), 0);
            for (uint32_t i = 0; i < mpf_table_capacity(arena, &host->table); i++)
                CHECK_EQUAL(*(uint64_t *)mpf_table_at(arena, &host->table, i), 0);
            mpf_table_destroy(arena, &host->table);
        }
    finish(&ref);
}
#endif

CHECK_MAIN({"grows_in_place", test_grows_in_place},
#ifdef MPF_DEBUG
           {"killed", test_killed},
#endif
           {"grown_by_another_meanwhile", test_grown_by_another_meanwhile})
