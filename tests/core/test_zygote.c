/* The server that forks: starts, statuses, a spare, clients and servers that are killed, requests that are none. */
#include "check.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "engine/zygote.h"

static int control; /* the clients' end */
static pid_t server;

/* A child of the server: says on its first descriptor who it is, then does what the byte it reads there says. */
static void be_child(const struct mpf_zygote_child *child)
{
    int32_t self = getpid();
    char what;
    CHECK(child->count >= 1);
    CHECK_EQUAL(write(child->fds[0], &self, sizeof self), sizeof self);
    struct pollfd polled = {.fd = child->fds[0], .events = POLLIN};
    while (poll(&polled, 1, -1) < 0)
        CHECK_EQUAL(errno, EINTR);
    if (read(child->fds[0], &what, 1) != 1)
        _exit(44);
    if (what == 'k')
        raise(SIGKILL);
    mpf_zygote_note();
    _exit(what);
}

/* What the server has been told, and how often it was idle after that. */
static struct {
    char told[MPF_ZYGOTE_TOLD_MAX];
    _Atomic int idle;
} *server_says;

static void serve(int its)
{
    struct mpf_zygote *zygote;
    struct mpf_zygote_child child;
    int rc, busy = 0;
    CHECK_EQUAL(mpf_zygote_open(its, &zygote), 0);
    while ((rc = mpf_zygote_next(zygote, busy > 0, &child)) > MPF_ZYGOTE_NOBODY) {
        if (rc == MPF_ZYGOTE_TOLD) {
            strcpy(server_says->told, mpf_zygote_told(zygote));
            busy = 3;
            continue;
        }
        if (rc == MPF_ZYGOTE_IDLE) {
            mpf_zygote_changed();
            busy--;
            atomic_fetch_add(&server_says->idle, 1);
            continue;
        }
        pid_t pid = fork();
        if (pid == 0) {
            if (mpf_zygote_begin(zygote, &child) < 0)
                _exit(1);
            be_child(&child);
        }
        mpf_zygote_forked(zygote, &child, pid);
    }
    mpf_zygote_close(zygote);
    _exit(rc == 0 ? 0 : 9);
}

static void start_server(void)
{
    int ends[2];
    server_says = check_shared(sizeof *server_says);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    server = fork();
    CHECK(server >= 0);
    if (server == 0) {
        close(ends[0]);
        serve(ends[1]);
    }
    close(ends[1]);
    control = ends[0];
}

struct started {
    int connection, pidfd, talk;
    pid_t pid;
};

static int hear(int connection, struct mpf_zygote_message *message, int *pidfd)
{
    int rc;
    do
        rc = mpf_zygote_hear(connection, -1, message, pidfd);
    while (rc == 0 || rc == -EINTR);
    return rc;
}

/* Asks for a child, of which meet() then hears. */
static struct started ask(bool follow)
{
    struct started started = {.pid = 0};
    int talk[2];
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, talk), 0);
    CHECK_EQUAL(mpf_zygote_ask(control, follow, &talk[1], 1, &started.connection), 0);
    close(talk[1]);
    started.talk = talk[0];
    return started;
}

static void meet(struct started *started)
{
    struct mpf_zygote_message message;
    int32_t pid;
    CHECK_EQUAL(hear(started->connection, &message, &started->pidfd), 1);
    CHECK_EQUAL(message.news, MPF_ZYGOTE_STARTED);
    CHECK(started->pidfd >= 0);
    started->pid = message.pid;
    CHECK_EQUAL(read(started->talk, &pid, sizeof pid), sizeof pid);
    CHECK_EQUAL(pid, started->pid);
}

static struct started start(bool follow)
{
    struct started started = ask(follow);
    meet(&started);
    return started;
}

static void tell(const struct started *started, char what) { CHECK_EQUAL(write(started->talk, &what, 1), 1); }

static void finish(struct started *started, int status)
{
    struct mpf_zygote_message message;
    CHECK_EQUAL(hear(started->connection, &message, NULL), 1);
    CHECK_EQUAL(message.news, MPF_ZYGOTE_ENDED);
    CHECK_EQUAL(message.pid, started->pid);
    CHECK_EQUAL(message.value, status);
    struct pollfd polled = {.fd = started->pidfd, .events = POLLIN};
    CHECK_EQUAL(poll(&polled, 1, 0), 1);
    CHECK_EQUAL(hear(started->connection, &message, NULL), -EPIPE);
    close(started->connection);
    close(started->pidfd);
    close(started->talk);
}

static void end_server(void)
{
    close(control);
    CHECK_EQUAL(check_wait(server), 0);
}

static void test_statuses(void)
{
    start_server();
    for (int i = 0; i < 20; i++) {
        struct started one = start(false), other = start(true);
        struct mpf_zygote_message message;
        CHECK_EQUAL(mpf_zygote_hear(one.connection, 0, &message, NULL), 0);
        tell(&other, 'k');
        finish(&other, SIGKILL);
        tell(&one, 7);
        finish(&one, 7 << 8);
    }
    end_server();
}

static unsigned count_children(pid_t pid)
{
    char path[64];
    unsigned count = 0;
    int child;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *file = fopen(path, "re");
    CHECK(file != NULL);
    while (fscanf(file, "%d", &child) == 1)
        count++;
    fclose(file);
    return count;
}

static void test_after_several_at_once_there_are_several_in_advance(void)
{
    enum { TOGETHER = 6 };
    struct started together[TOGETHER];
    start_server();
    for (int round = 0; round < 20; round++) {
        kill(server, SIGSTOP); /* they are all there when it goes on */
        for (int i = 0; i < TOGETHER; i++)
            together[i] = ask(false);
        kill(server, SIGCONT);
        for (int i = 0; i < TOGETHER; i++)
            meet(&together[i]);
        for (int i = 0; i < TOGETHER; i++) {
            tell(&together[i], (char)i);
            finish(&together[i], i << 8);
        }
    }
    while (count_children(server) < 2)
        sched_yield();
    CHECK(count_children(server) < TOGETHER);
    end_server();
}

static void test_children_go_on_without_the_server(void)
{
    start_server();
    CHECK_EQUAL(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    struct started one = start(false), two = start(true);
    struct mpf_zygote_message message;
    int connection;
    kill(server, SIGKILL);
    CHECK_EQUAL(check_wait(server), -SIGKILL);
    CHECK_EQUAL(hear(one.connection, &message, NULL), -EPIPE);
    CHECK_EQUAL(mpf_zygote_ask(control, false, NULL, 0, &connection), -EPIPE);
    tell(&one, 3);
    CHECK_EQUAL(check_wait(one.pid), 3);
    tell(&two, 4);
    CHECK_EQUAL(check_wait(two.pid), 4);
}

static void test_the_server_ends_when_nobody_can_ask(void)
{
    start_server();
    struct started one = start(false);
    end_server();
    close(one.talk);
}

struct client_report {
    _Atomic int32_t follower, other;
};

static void be_client(void *argument)
{
    struct client_report *report = argument;
    struct started follower = start(true), other = start(false);
    report->follower = follower.pid;
    report->other = other.pid;
    raise(SIGKILL);
}

static void test_followers_of_a_killed_client_end(void)
{
    struct client_report *report = check_shared(sizeof *report);
    start_server();
    struct started own = start(true);
    CHECK_EQUAL(check_wait(check_fork(be_client, report)), -SIGKILL);
    while (kill(report->follower, 0) == 0)
        sched_yield();
    CHECK_EQUAL(errno, ESRCH);
    tell(&own, 5);
    finish(&own, 5 << 8);
    end_server();
}

static void test_what_is_no_request_is_passed_over(void)
{
    char garbage[300];
    start_server();
    memset(garbage, 'x', sizeof garbage);
    for (size_t size = 1; size < sizeof garbage; size += 23)
        CHECK_EQUAL(send(control, garbage, size, 0), size);
    struct started one = start(false);
    tell(&one, 6);
    finish(&one, 6 << 8);
    end_server();
}

static void test_limits(void)
{
    int fds[MPF_ZYGOTE_FDS + 1], connection;
    struct mpf_zygote_message message;
    start_server();
    for (unsigned i = 0; i <= MPF_ZYGOTE_FDS; i++)
        fds[i] = control;
    CHECK_EQUAL(mpf_zygote_ask(control, false, fds, MPF_ZYGOTE_FDS + 1, &connection), -EINVAL);
    struct started one = start(false); /* and from now on there is a spare */
    int talk[2];
    int32_t pid;
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, talk), 0);
    for (unsigned i = 0; i < MPF_ZYGOTE_FDS; i++)
        fds[i] = talk[1];
    CHECK_EQUAL(mpf_zygote_ask(control, false, fds, MPF_ZYGOTE_FDS, &connection), 0);
    close(talk[1]);
    CHECK_EQUAL(hear(connection, &message, NULL), 1);
    CHECK_EQUAL(message.news, MPF_ZYGOTE_STARTED);
    CHECK_EQUAL(read(talk[0], &pid, sizeof pid), sizeof pid);
    CHECK_EQUAL(write(talk[0], "", 1), 1);
    CHECK_EQUAL(hear(connection, &message, NULL), 1);
    CHECK_EQUAL(message.value, 0);
    tell(&one, 1);
    finish(&one, 1 << 8);
    end_server();
}

/* What a child tells comes whole or, where it is too long, its beginning; the server looks at it when nobody asks. */
static void test_telling(void)
{
    static char longest[2 * MPF_ZYGOTE_TOLD_MAX];
    start_server();
    struct started one = start(false);
    mpf_zygote_tell(control, "one\ntwo");
    while (atomic_load(&server_says->idle) < 3)
        sched_yield();
    CHECK(strcmp(server_says->told, "one\ntwo") == 0);
    memset(longest, 'x', sizeof longest - 1);
    mpf_zygote_tell(control, longest);
    while (atomic_load(&server_says->idle) < 6)
        sched_yield();
    CHECK_EQUAL(strlen(server_says->told), sizeof server_says->told - 1);
    CHECK(strncmp(server_says->told, longest, sizeof server_says->told - 1) == 0);
    mpf_zygote_tell(control, ""); /* is nothing */
    struct started two = start(false), three = start(false);
    tell(&one, 1);
    finish(&one, 1 << 8);
    tell(&two, 2);
    finish(&two, 2 << 8);
    tell(&three, 3);
    finish(&three, 3 << 8);
    CHECK_EQUAL(atomic_load(&server_says->idle), 6);
    end_server();
}

CHECK_MAIN({"statuses", test_statuses}, {"telling", test_telling},
           {"after_several_at_once_there_are_several_in_advance", test_after_several_at_once_there_are_several_in_advance},
           {"children_go_on_without_the_server", test_children_go_on_without_the_server},
           {"the_server_ends_when_nobody_can_ask", test_the_server_ends_when_nobody_can_ask},
           {"followers_of_a_killed_client_end", test_followers_of_a_killed_client_end},
           {"what_is_no_request_is_passed_over", test_what_is_no_request_is_passed_over}, {"limits", test_limits})
