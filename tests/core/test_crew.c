/* Crews: tasks go out, results come back, each once. */
#include "engine_check.h"

static struct account account;

static void test_one_worker(void) {
    uint32_t slot;
    engine_start();
    pid_t pid = start_worker(&slot);
    for (uint64_t number = 0; number < 1000; number++) {
        put_sized(number, length_of(number / 3), false);
        mpf_crew_wake(&crew, 1);
        CHECK_EQUAL(mpf_crew_pending(&crew), 1);
        collect_until(&account, number + 1);
        CHECK_EQUAL(mpf_crew_pending(&crew), 0);
    }
    dismiss_all(&pid, &slot, 1);
    engine_finish();
}

static void test_many_workers(void) {
    pid_t pids[4];
    uint32_t slots[4];
    engine_start();
    for (uint64_t number = 0; number < 3000; number++)
        put_sized(number, length_of(number / 3), false);
    for (int i = 0; i < 4; i++)
        pids[i] = start_worker(&slots[i]);
    for (uint64_t number = 3000; number < 9000; number++)
        put_sized(number, length_of(number / 3), number % 2 == 0);
    mpf_crew_wake(&crew, 6000);
    collect_until(&account, 9000);
    dismiss_all(pids, slots, 4);
    engine_finish();
}

CHECK_MAIN({"one_worker", test_one_worker}, {"many_workers", test_many_workers})
