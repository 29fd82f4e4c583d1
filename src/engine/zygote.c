/*
 * Purpose: forking children for other processes out of one that is small and has everything imported.
 *
 * Layout: two kinds of sockets, both SOCK_SEQPACKET, so that a message is whole or not there.
 *
 *     control      many clients, one server. A request: struct request, with the server's end of a new connection and the
 *                  child's descriptors. Having the socket is the permission to ask: it has no name that could be looked up.
 *                  A child tells what it would have the server do for the next ones: TOLD, text.
 *     connection   one for each child. From the child: STARTED, with a pidfd of it. From the server: ENDED or FAILED.
 *
 *     in the server: children[]  pid, connection, client     clients[]  pid, start time, pidfd
 *                    spares[]    children that were forked in advance, oldest first, and the sockets over which they get requests
 *
 * States of a child: asked for -> forked -> STARTED -> ENDED; of the spare: forked -> asked for -> STARTED -> ENDED. It is
 * the child itself that says STARTED, before anything else: a server that is killed meanwhile cannot leave a child
 * running that the client would ask for a second time. A spare is forked when nobody waits; what a fork costs
 * after it (copies of pages that are written) is then paid while somebody else's child runs: platform/written.c.
 *
 * Invariants: a child is waited for only here, so a pid in children[] is that child's. The server never waits for a
 * client: what does not fit into a socket is not sent.
 *
 * Callers: open, next, forked, begin, close: the server's only thread. ask, hear: anyone.
 *
 * Death of the caller: a client: its children go on; those that follow it get a signal that has them look. The server:
 * clients read end of file; its children go on, and those that follow somebody look again later. A child before it has
 * said STARTED: its client hears ENDED.
 */
#define _GNU_SOURCE
#include "engine/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/clock.h"
#include "platform/fault.h"
#include "platform/follow.h"
#include "platform/process.h"
#include "platform/written.h"

#define MAGIC 0x6d70667au
#define TOLD 0x6d706674u /* text follows */
#define KERNEL_FDS 253
#define SPARES_MAX 4

struct request {
    uint32_t magic;
    uint32_t follow;
    int32_t client;
    uint32_t count;
    uint64_t client_start;
};

struct child {
    pid_t pid;
    int connection;
    int32_t client;
};

struct client {
    int32_t pid;
    uint64_t start;
    int pidfd;
};

struct spare {
    pid_t pid;
    int socket;
};

struct mpf_zygote {
    int control, signals;
    struct spare spares[SPARES_MAX];
    unsigned spare_count;
    unsigned spares_wanted; /* 0 until somebody has asked; then one more whenever there was none for who asked */
    sigset_t former_mask;
    struct child *children;
    unsigned child_count, child_room;
    struct client *clients;
    unsigned client_count, client_room;
    struct pollfd *polled; /* control, signals, then the clients */
    unsigned polled_room;
    char told[MPF_ZYGOTE_TOLD_MAX];
};

/* Of the server and its children. NULL where it is not to be had. */
static struct mpf_written *zygote_written;

union descriptors {
    char bytes[CMSG_SPACE(sizeof(int) * KERNEL_FDS)];
    struct cmsghdr align;
};

static int make_room(void **array, unsigned *room, unsigned count, size_t size)
{
    if (count < *room)
        return 0;
    unsigned wider = *room ? 2 * *room : 16;
    void *moved = realloc(*array, wider * size);
    if (!moved)
        return -ENOMEM;
    *array = moved;
    *room = wider;
    return 0;
}

static void close_all(const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
}

/* Sends one message, with descriptors, without ever raising SIGPIPE. 0 or -errno. */
static int send_message(int fd, const void *data, size_t size, const int *fds, unsigned count, int flags)
{
    union descriptors control;
    struct iovec piece = {.iov_base = (void *)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * count);
    }
    ssize_t sent;
    do
        sent = sendmsg(fd, &message, MSG_NOSIGNAL | flags);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* Receives one message. Its size (0: end of file), or -errno. fds has room for KERNEL_FDS. */
static ssize_t receive_message(int fd, void *data, size_t size, int *fds, unsigned *count, int flags)
{
    union descriptors control;
    struct iovec piece = {.iov_base = data, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    *count = 0;
    ssize_t received = recvmsg(fd, &message, flags);
    if (received < 0)
        return -errno;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
        *count = (unsigned)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(header), sizeof(int) * *count);
    }
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        close_all(fds, *count);
        *count = 0;
        return -EMSGSIZE;
    }
    return received;
}

int mpf_zygote_open(int control, struct mpf_zygote **zygote)
{
    struct mpf_zygote *z = calloc(1, sizeof *z);
    sigset_t ends;
    if (!z)
        return -ENOMEM;
    sigemptyset(&ends);
    sigaddset(&ends, SIGCHLD);
    z->control = control;
    z->signals = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
    if (z->signals < 0) {
        int rc = -errno;
        free(z);
        return rc;
    }
    pthread_sigmask(SIG_BLOCK, &ends, &z->former_mask);
    (void)mpf_written_open(&zygote_written); /* else spares wait as they are */
    *zygote = z;
    return 0;
}

static struct client *find_client(struct mpf_zygote *z, int32_t pid, uint64_t start)
{
    for (unsigned i = 0; i < z->client_count; i++)
        if (z->clients[i].pid == pid && z->clients[i].start == start)
            return &z->clients[i];
    return NULL;
}

/* The pidfd of the client, watched from now on; -ESRCH: it has ended. */
static int watch_client(struct mpf_zygote *z, int32_t pid, uint64_t start)
{
    struct client *known = find_client(z, pid, start);
    if (known)
        return known->pidfd;
    int rc = make_room((void **)&z->clients, &z->client_room, z->client_count, sizeof *z->clients);
    int pidfd = rc < 0 ? rc : mpf_process_open(pid);
    if (pidfd < 0)
        return pidfd;
    uint64_t its;
    rc = mpf_process_start_time(pid, &its);
    if (rc == 0 && start != 0 && its != start)
        rc = -ESRCH;
    if (rc == -ESRCH) {
        close(pidfd);
        return rc;
    }
    z->clients[z->client_count++] = (struct client){.pid = pid, .start = start, .pidfd = pidfd};
    return pidfd;
}

static void tell_followers(struct mpf_zygote *z, int32_t client)
{
    for (unsigned i = 0; i < z->child_count; i++)
        if (z->children[i].client == client)
            kill(z->children[i].pid, mpf_follow_signal());
}

static void drop_dead_clients(struct mpf_zygote *z)
{
    /* Backwards: what was polled stands in the order of the clients, and the last one takes the place of one that goes. */
    for (unsigned i = z->client_count; i-- > 0;) {
        if (!(z->polled[2 + i].revents & (POLLIN | POLLHUP | POLLERR)))
            continue;
        tell_followers(z, z->clients[i].pid);
        close(z->clients[i].pidfd);
        z->clients[i] = z->clients[--z->client_count];
    }
}

static void drop_spare(struct mpf_zygote *z, unsigned i)
{
    close(z->spares[i].socket);
    z->spare_count--;
    memmove(&z->spares[i], &z->spares[i + 1], (z->spare_count - i) * sizeof z->spares[0]);
}

static void tell_end(struct mpf_zygote *z, pid_t pid, int status)
{
    for (unsigned i = 0; i < z->spare_count; i++)
        if (z->spares[i].pid == pid) {
            drop_spare(z, i);
            z->spares_wanted = 0; /* no other one until somebody asks: whatever ended it would end that, too */
            break;
        }
    for (unsigned i = 0; i < z->child_count; i++) {
        if (z->children[i].pid != pid)
            continue;
        struct mpf_zygote_message message = {.news = MPF_ZYGOTE_ENDED, .pid = pid, .value = status};
        (void)send_message(z->children[i].connection, &message, sizeof message, NULL, 0, MSG_DONTWAIT);
        close(z->children[i].connection);
        z->children[i] = z->children[--z->child_count];
        return;
    }
}

static void reap(struct mpf_zygote *z)
{
    struct signalfd_siginfo info;
    int status;
    pid_t pid;
    while (read(z->signals, &info, sizeof info) > 0)
        ;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        MPF_FAULT("zygote.reaped");
        tell_end(z, pid, status);
    }
}

/* Has a spare be the child. false where there is none, or it has ended: then it has to be forked. */
static bool give_to_spare(struct mpf_zygote *z, struct mpf_zygote_child *child)
{
    int fds[KERNEL_FDS];
    unsigned count = 0;
    if (z->spare_count == 0 || child->count + 2 > KERNEL_FDS ||
        make_room((void **)&z->children, &z->child_room, z->child_count, sizeof *z->children) < 0)
        return false;
    struct request order = {.magic = MAGIC, .follow = child->follow, .client = child->client, .count = child->count,
                            .client_start = child->client_start};
    fds[count++] = child->connection;
    memcpy(fds + count, child->fds, sizeof(int) * child->count);
    count += child->count;
    if (child->client_pidfd >= 0)
        fds[count++] = child->client_pidfd;
    pid_t pid = z->spares[0].pid;
    int rc = send_message(z->spares[0].socket, &order, sizeof order, fds, count, MSG_DONTWAIT);
    MPF_FAULT("zygote.given");
    drop_spare(z, 0);
    if (rc < 0)
        return false;
    close_all(child->fds, child->count);
    z->children[z->child_count++] = (struct child){.pid = pid, .connection = child->connection,
                                                   .client = child->client};
    return true;
}

static int prepare_spare(struct mpf_zygote *z, struct mpf_zygote_child *child)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    *child = (struct mpf_zygote_child){.spare = true, .connection = ends[1], .client_pidfd = -1};
    z->spares[z->spare_count++] = (struct spare){.pid = -1, .socket = ends[0]};
    return 0;
}

/* Offers the CPU: to the server, perhaps, for whom somebody waits. Not once more to one who kept it for a time slice: he is there the
 * next time, too, and then this one would rather sleep, and be woken. */
static void give_way(void)
{
    static bool crowded;
    if (crowded)
        return;
    int64_t before = mpf_clock_now();
    sched_yield();
    crowded = mpf_clock_now() - before > MPF_CLOCK_SLICE_NS;
}

/* Asked after every few pages. */
static bool nobody_waits(void *spare_socket)
{
    struct pollfd polled = {.fd = *(int *)spare_socket, .events = POLLIN};
    give_way();
    return poll(&polled, 1, 0) == 0;
}

/* In the spare: waits for its request. */
static int await_order(struct mpf_zygote_child *child)
{
    struct request order;
    int fds[KERNEL_FDS];
    unsigned count;
    ssize_t size;
    mpf_written_repeat(zygote_written, nobody_waits, &child->connection);
    do
        size = receive_message(child->connection, &order, sizeof order, fds, &count, 0);
    while (size == -EINTR);
    close(child->connection);
    child->connection = -1;
    if (size != sizeof order)
        return -EPIPE;
    child->client = order.client;
    child->client_start = order.client_start;
    child->follow = order.follow != 0;
    child->connection = fds[0];
    child->count = order.count;
    memcpy(child->fds, fds + 1, sizeof(int) * order.count);
    child->client_pidfd = count > 1 + order.count ? fds[1 + order.count] : -1;
    if (child->client_pidfd >= 0)
        (void)fcntl(child->client_pidfd, F_SETFD, FD_CLOEXEC);
    return 0;
}

union letter {
    struct request request;
    struct {
        uint32_t magic;
        char text[MPF_ZYGOTE_TOLD_MAX - 1];
    } told;
};

static int take_told(struct mpf_zygote *z, const union letter *letter, size_t size)
{
    size_t length = size - offsetof(union letter, told.text);
    if (length > sizeof z->told - 1)
        length = sizeof z->told - 1;
    memcpy(z->told, letter->told.text, length);
    z->told[length] = 0;
    return MPF_ZYGOTE_TOLD;
}

/* What is due, or -EAGAIN: nothing after all. */
static int take_request(struct mpf_zygote *z, struct mpf_zygote_child *child)
{
    union letter letter;
    int fds[KERNEL_FDS];
    unsigned count;
    ssize_t size = receive_message(z->control, &letter, sizeof letter, fds, &count, MSG_DONTWAIT);
    if (size == 0 && count == 0)
        return MPF_ZYGOTE_NOBODY;
    if (size < 0)
        return size == -ECONNRESET ? MPF_ZYGOTE_NOBODY : -EAGAIN;
    if (count == 0 && size > (ssize_t)offsetof(union letter, told.text) && letter.told.magic == TOLD)
        return take_told(z, &letter, (size_t)size);
    const struct request request = letter.request;
    if (size != sizeof request || request.magic != MAGIC || count < 1 || request.count != count - 1) {
        close_all(fds, count);
        return -EAGAIN;
    }
    int pidfd = watch_client(z, request.client, request.client_start);
    if (pidfd == -ESRCH) {
        close_all(fds, count);
        return -EAGAIN;
    }
    if (z->spares_wanted == 0 || (z->spare_count == 0 && z->spares_wanted < SPARES_MAX))
        z->spares_wanted++;
    child->spare = false;
    child->client = request.client;
    child->client_start = request.client_start;
    child->follow = request.follow != 0;
    child->client_pidfd = pidfd < 0 ? -1 : pidfd;
    child->connection = fds[0];
    child->count = count - 1;
    memcpy(child->fds, fds + 1, sizeof(int) * child->count);
    return MPF_ZYGOTE_FORK;
}

int mpf_zygote_next(struct mpf_zygote *z, bool idle, struct mpf_zygote_child *child)
{
    for (;;) {
        while (2 + z->client_count > z->polled_room)
            if (make_room((void **)&z->polled, &z->polled_room, z->polled_room, sizeof *z->polled) < 0)
                return -ENOMEM;
        z->polled[0] = (struct pollfd){.fd = z->control, .events = POLLIN};
        z->polled[1] = (struct pollfd){.fd = z->signals, .events = POLLIN};
        for (unsigned i = 0; i < z->client_count; i++)
            z->polled[2 + i] = (struct pollfd){.fd = z->clients[i].pidfd, .events = POLLIN};
        bool wants_spare = z->spare_count < z->spares_wanted;
        int ready = poll(z->polled, 2 + z->client_count, wants_spare || idle ? 0 : -1);
        if (ready < 0)
            return -errno;
        if (ready == 0 && idle) /* before a spare, which has something of it then */
            return MPF_ZYGOTE_IDLE;
        if (ready == 0 && prepare_spare(z, child) == 0)
            return MPF_ZYGOTE_FORK;
        if (z->polled[1].revents)
            reap(z);
        drop_dead_clients(z);
        if (!z->polled[0].revents)
            continue;
        int rc = take_request(z, child);
        if (rc != -EAGAIN && !(rc == MPF_ZYGOTE_FORK && give_to_spare(z, child)))
            return rc;
    }
}

void mpf_zygote_forked(struct mpf_zygote *z, struct mpf_zygote_child *child, pid_t pid)
{
    if (child->spare) {
        close(child->connection);
        z->spares[z->spare_count - 1].pid = pid;
        if (pid < 0) {
            drop_spare(z, z->spare_count - 1);
            z->spares_wanted = 0; /* the next one who asks will see whether it works again */
        }
        return;
    }
    close_all(child->fds, child->count);
    if (pid > 0 && make_room((void **)&z->children, &z->child_room, z->child_count, sizeof *z->children) == 0) {
        z->children[z->child_count++] = (struct child){.pid = pid, .connection = child->connection, .client = child->client};
        return;
    }
    struct mpf_zygote_message message = {.news = MPF_ZYGOTE_FAILED, .value = pid < 0 ? -pid : ENOMEM};
    if (pid > 0)
        kill(pid, SIGKILL);
    (void)send_message(child->connection, &message, sizeof message, NULL, 0, MSG_DONTWAIT);
    close(child->connection);
}

static int say_started(const struct mpf_zygote_child *child)
{
    struct mpf_zygote_message message = {.news = MPF_ZYGOTE_STARTED, .pid = getpid()};
    int pidfd = mpf_process_open(getpid());
    if (pidfd < 0)
        return pidfd;
    int rc = send_message(child->connection, &message, sizeof message, &pidfd, 1, MSG_DONTWAIT);
    close(pidfd);
    return rc;
}

static void let_go(struct mpf_zygote *z, int but)
{
    close(z->control);
    close(z->signals);
    while (z->spare_count > 0)
        drop_spare(z, 0);
    for (unsigned i = 0; i < z->child_count; i++)
        close(z->children[i].connection);
    for (unsigned i = 0; i < z->client_count; i++)
        if (z->clients[i].pidfd != but)
            close(z->clients[i].pidfd);
    pthread_sigmask(SIG_SETMASK, &z->former_mask, NULL);
    free(z->children);
    free(z->clients);
    free(z->polled);
    free(z);
}

int mpf_zygote_begin(struct mpf_zygote *z, struct mpf_zygote_child *child)
{
    let_go(z, child->spare ? -1 : child->client_pidfd);
    MPF_FAULT("zygote.forked");
    int rc = child->spare ? await_order(child) : 0;
    if (rc == 0)
        rc = say_started(child);
    if (child->connection >= 0)
        close(child->connection);
    MPF_FAULT("zygote.started");
    if (rc == 0 && child->follow)
        rc = mpf_follow_start(child->client, child->client_start, child->client_pidfd >= 0);
    return rc == -ECONNRESET ? -EPIPE : rc;
}

const char *mpf_zygote_told(const struct mpf_zygote *z) { return z->told; }

void mpf_zygote_changed(void)
{
    mpf_written_close(zygote_written);
    zygote_written = NULL;
    (void)mpf_written_open(&zygote_written);
}

void mpf_zygote_tell(int control, const char *text)
{
    union letter letter = {.told.magic = TOLD};
    size_t length = strlen(text) < sizeof letter.told.text ? strlen(text) : sizeof letter.told.text;
    memcpy(letter.told.text, text, length);
    (void)send_message(control, &letter, offsetof(union letter, told.text) + length, NULL, 0, MSG_DONTWAIT);
}

void mpf_zygote_note(void) { mpf_written_note(zygote_written); }

void mpf_zygote_close(struct mpf_zygote *z)
{
    let_go(z, -1);
    mpf_written_close(zygote_written);
    zygote_written = NULL;
}

/* When this process began, 0 if that is not known. Read once; what a forked child finds kept here is its parent's. */
static uint64_t own_start_time(void)
{
    static _Thread_local uint64_t start, forks;
    if (start == 0 || forks != mpf_process_forks) {
        start = 0;
        (void)mpf_process_start_time(getpid(), &start);
        forks = mpf_process_forks;
    }
    return start;
}

int mpf_zygote_ask(int control, bool follow, const int *fds, unsigned count, int *connection)
{
    if (count > MPF_ZYGOTE_FDS)
        return -EINVAL;
    int ends[2], passed[1 + MPF_ZYGOTE_FDS];
    struct request request = {.magic = MAGIC, .follow = follow, .client = getpid(), .count = count,
                              .client_start = own_start_time()};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    passed[0] = ends[1];
    for (unsigned i = 0; i < count; i++)
        passed[1 + i] = fds[i];
    int rc = send_message(control, &request, sizeof request, passed, 1 + count, 0);
    close(ends[1]);
    if (rc < 0) {
        close(ends[0]);
        return rc == -ECONNRESET || rc == -ENOTCONN || rc == -ECONNREFUSED ? -EPIPE : rc;
    }
    *connection = ends[0];
    return 0;
}

int mpf_zygote_hear(int connection, int timeout_ms, struct mpf_zygote_message *message, int *pidfd)
{
    struct pollfd polled = {.fd = connection, .events = POLLIN};
    int fds[KERNEL_FDS];
    unsigned count;
    int ready = poll(&polled, 1, timeout_ms);
    if (ready <= 0)
        return ready < 0 ? -errno : 0;
    ssize_t size = receive_message(connection, message, sizeof *message, fds, &count, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (size == -EAGAIN)
        return 0;
    unsigned kept = pidfd && count > 0 ? 1 : 0;
    close_all(fds + kept, count - kept);
    if (pidfd)
        *pidfd = kept ? fds[0] : -1;
    if (size == 0 || size == -ECONNRESET)
        return -EPIPE;
    if (size < 0)
        return (int)size;
    return size == sizeof *message ? 1 : -EPROTO;
}
