/* Model of who is woken for a task: src/engine/crew.c (wake) with src/engine/worker.c (await, rouse_next). Tasks that take for ever, one put
 * and one wake each; as many workers; one worker may be killed before any of its steps.
 *
 * A worker that finds nothing seeks for a while (a putter that counts on it wakes nobody), then announces itself and sleeps.
 * Whoever sought or slept, and claims a task, looks whether there are more and somebody sleeps. A death is noticed in the end: seekers are set to 0, and
 * all sleepers look (park.pml).
 *
 * Checked when nothing can move any more: there is no task that nobody has while somebody alive sleeps.
 *
 * -DNO_ROUSE wakes no further sleeper, -DNO_LOOK sleeps after seeking without having looked again, -DNO_RESET leaves the dead
 * counted among the seekers: each must be found wrong. */
#define WORKERS 2
#define TASKS 2

byte pending;
byte seekers;
byte sleepers;
byte turn;   /* counts announcements */
byte signal; /* of the eventcount */
bit generation; /* of the count of sleepers */
bool asleep[WORKERS];
bool dead[WORKERS];
bool died;

inline step() {
    if
    :: true
    :: !died && me == 0 -> died = true; dead[me] = true; goto killed
    fi
}

inline finish() {
    atomic {
        if
        :: sleepers > 0 && generation == mine -> sleepers--
        :: else
        fi
    }
}

/* One of those who sleep in the kernel, if any; whoever is about to sleep sees the signal changed. */
inline wake_one() {
    atomic {
        signal++;
        if
        :: asleep[0] -> asleep[0] = false
        :: asleep[1] -> asleep[1] = false
        :: !asleep[0] && !asleep[1]
        fi
    }
}

proctype worker(byte me) {
    byte key;
    bit mine;
    bool roused, announced;
look:
    step();
    atomic {
        if
        :: pending > 0 -> pending--
        :: else -> goto nothing
        fi
    }
    goto claimed;
nothing:
    roused = true;
    if
    :: announced ->
        /* the look after the announcement found nothing either */
        step();
        atomic {
            if
            :: signal == key -> asleep[me] = true
            :: else
            fi
        }
        !asleep[me];
        step();
        finish();
        announced = false;
        goto look
    :: else
    fi;
    seekers++;
    step();
    if
    :: pending > 0 -> skip /* found while spinning */
    :: true        -> skip /* gives up */
    fi;
    step();
    atomic {
        if
        :: seekers > 0 -> seekers--
        :: else
        fi
    }
    step();
    key = signal;
    atomic { sleepers++; turn++; mine = generation }
    announced = true;
#ifdef NO_LOOK
    goto nothing;
#else
    goto look;
#endif
claimed:
    /* an announcement is taken back: it found its task while looking */
    if
    :: announced ->
        step();
        finish()
    :: else
    fi;
#ifndef NO_ROUSE
    if
    :: roused ->
        step();
        if
        :: sleepers > 0 && pending > 0 -> step(); wake_one()
        :: else
        fi
    :: else
    fi;
#endif
    false; /* busy for ever */
killed:
    skip
}

proctype putter() {
    byte task;
    byte known, left; /* of those who had announced themselves at that turn, how many are not woken yet */
    for (task : 1 .. TASKS) {
        pending++;
        if
        :: seekers == 0 ->
            d_step {
                if
                :: sleepers > 0 && turn != known -> known = turn; left = sleepers
                :: else
                fi
            }
            if
            :: left > 0 -> left--; wake_one()
            :: else
            fi
        :: else
        fi
    }
}

/* Notices the death: the count of sleepers starts anew, all look again. */
proctype reaper() {
    died;
#ifndef NO_RESET
    seekers = 0;
#endif
    atomic {
        sleepers = 0;
        generation = 1;
        signal++;
        asleep[0] = false;
        asleep[1] = false
    }
}

/* How many of the living sleep. */
#define RESTING (asleep[1] + (asleep[0] && !dead[0]))

init {
    byte i;
    atomic {
        for (i : 0 .. WORKERS - 1) { run worker(i) }
        run putter();
        run reaper()
    }
    timeout;
    assert(pending == 0 || RESTING == 0)
}
