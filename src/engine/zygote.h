/* A server that forks: it keeps a process in the state in which children are to begin, and forks one for whoever asks. */
#ifndef MPF_ENGINE_ZYGOTE_H
#define MPF_ENGINE_ZYGOTE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MPF_ZYGOTE_FDS 252 /* descriptors that can go with a request, beside the connection; the kernel's limit less one */

/* What a child is told by whoever asked for it. */
struct mpf_zygote_child {
    int32_t client;       /* pid of who asked */
    uint64_t client_start; /* and its start time, see process.h */
    bool follow;          /* whether the child ends together with it */
    int client_pidfd;     /* in the child: readable once it has ended; -1: not to be had */
    unsigned count;
    int fds[MPF_ZYGOTE_FDS];
    int connection; /* the server's end, closed by mpf_zygote_begin() and mpf_zygote_forked() */
    bool spare;     /* forked in advance; connection: the socket over which it hears of the above */
};

/* What the one who asked is told. */
enum mpf_zygote_news {
    MPF_ZYGOTE_STARTED, /* value: 0; comes with a pidfd */
    MPF_ZYGOTE_ENDED,   /* value: status as of waitpid() */
    MPF_ZYGOTE_FAILED,  /* value: errno of fork() */
};

struct mpf_zygote_message {
    uint32_t news;
    int32_t pid;
    int64_t value;
};

struct mpf_zygote;

/* The server that listens on `control`, a SOCK_SEQPACKET socket (taken over). Blocks SIGCHLD. 0 or -errno. */
int mpf_zygote_open(int control, struct mpf_zygote **zygote);

enum mpf_zygote_due {
    MPF_ZYGOTE_NOBODY, /* is left who could ask */
    MPF_ZYGOTE_FORK,
    MPF_ZYGOTE_TOLD, /* a child has told something, see mpf_zygote_told() */
    MPF_ZYGOTE_IDLE, /* nothing is to be done */
};

/* Waits until a child is to be forked, for somebody who asks or in advance, meanwhile telling of children that end and of
 * clients that end. idle: come back at once when nothing is to be done. One of the above; -EINTR: a signal; else -errno. */
int mpf_zygote_next(struct mpf_zygote *zygote, bool idle, struct mpf_zygote_child *child);

/* What was told last, until the next call: text, any bytes that some child has sent. */
const char *mpf_zygote_told(const struct mpf_zygote *zygote);

/* The server's memory is another one than its children have noted, see platform/written.h: the next ones note it anew. */
void mpf_zygote_changed(void);

/* In the server, after the fork: pid of the child, or -errno. */
void mpf_zygote_forked(struct mpf_zygote *zygote, struct mpf_zygote_child *child, pid_t pid);

/* In the child, first of all: lets go of what is the server's (which is freed), waits until somebody asks where it was
 * forked in advance, and says that the child has started.
 * 0; -EPIPE: who asked is not there any more, or nobody will ask, and the child should end; else -errno. */
int mpf_zygote_begin(struct mpf_zygote *zygote, struct mpf_zygote_child *child);

#define MPF_ZYGOTE_TOLD_MAX 16384 /* bytes, with the 0 at the end */

/* In a child: tells the server at the other end of `control` something, unless that has too much to read already. */
void mpf_zygote_tell(int control, const char *text);

/* In a child that is about to end: notes what the next ones will need. Elsewhere nothing. */
void mpf_zygote_note(void);

void mpf_zygote_close(struct mpf_zygote *zygote);

/* Asks for a child over `control`. fds: handed to the child, which gets duplicates. *connection: where the
 * news comes from, the caller's to close. 0; -EPIPE: no server any more; else -errno. Any thread of any process. */
int mpf_zygote_ask(int control, bool follow, const int *fds, unsigned count, int *connection);

/* Waits for news for at most timeout_ms (-1: for ever). *pidfd, where given: the descriptor that came with it, or -1.
 * 1; 0: time is up; -EPIPE: the server has ended, there will be no more; -EINTR; else -errno. */
int mpf_zygote_hear(int connection, int timeout_ms, struct mpf_zygote_message *message, int *pidfd);

#endif
