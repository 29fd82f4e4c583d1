/* The gate: writers wait before it while it is closed, but neither for a dead one nor for ever. */
#include "container_check.h"

#include "containers/gate.h"

static struct mpf_ref ref;
static struct mpf_container_shm *container;

static void setup(void) {
    container_start();
    container = make(MPF_BLOCK_LIST, sizeof *container, &ref);
    mpf_container_init(container);
}

static void test_open_and_own(void) {
    setup();
    CHECK(!mpf_gate_is_closed(container));
    mpf_gate_await(arena, container);
    mpf_gate_close(arena, container);
    CHECK(mpf_gate_is_closed(container));
    mpf_gate_await(arena, container); /* who has closed it passes */
    mpf_gate_close(arena, container);
    mpf_gate_open(arena, container);
    CHECK(!mpf_gate_is_closed(container));
    finish(&ref);
}

static void *await_in_thread(void *argument) {
    mpf_gate_await(arena, container);
    atomic_store((_Atomic int *)argument, 1);
    return NULL;
}

static void test_others_wait(void) {
    _Atomic int passed = 0;
    pthread_t thread;
    setup();
    mpf_gate_close(arena, container);
    CHECK_EQUAL(pthread_create(&thread, NULL, await_in_thread, &passed), 0);
    for (int i = 0; i < 100; i++)
        sched_yield();
    CHECK_EQUAL(atomic_load(&passed), 0);
    mpf_gate_open(arena, container);
    pthread_join(thread, NULL);
    CHECK_EQUAL(atomic_load(&passed), 1);
    finish(&ref);
}

static void test_opened_where_it_takes_too_long(void) {
    _Atomic int passed = 0;
    pthread_t thread;
    setup();
    mpf_gate_close(arena, container);
    CHECK_EQUAL(pthread_create(&thread, NULL, await_in_thread, &passed), 0);
    pthread_join(thread, NULL);
    CHECK(!mpf_gate_is_closed(container));
    mpf_gate_open(arena, container); /* no longer its own: nothing happens */
    finish(&ref);
}

static void die_with_it_closed(void *argument) {
    (void)argument;
    mpf_gate_close(arena, container);
    kill(getpid(), SIGKILL);
}

static void test_opened_after_a_death(void) {
    setup();
    CHECK_EQUAL(check_wait(check_fork(die_with_it_closed, NULL)), -SIGKILL);
    CHECK(mpf_gate_is_closed(container));
    mpf_gate_close(arena, container);
    mpf_gate_open(arena, container);
    CHECK(!mpf_gate_is_closed(container));
    finish(&ref);
}

CHECK_MAIN({"open_and_own", test_open_and_own}, {"others_wait", test_others_wait},
           {"opened_where_it_takes_too_long", test_opened_where_it_takes_too_long},
           {"opened_after_a_death", test_opened_after_a_death})
