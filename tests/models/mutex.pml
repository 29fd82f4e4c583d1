/* Model of src/sync/mutex.c: three participants take and release one mutex, one of them
 * twice, and at most one is killed, before any step.
 *
 * The word (owner, WAITERS, WOKEN) is read and changed in one atomic step, as the compare-and-swaps do. The kernel's
 * queue is `asleep`; a killed sleeper leaves it by itself, a wake that it was given is lost. The reaper stands for
 * whoever notices the death: it runs mpf_mutex_recover, then bumps the epoch, which ends every sleep.
 *
 * Checked: mutual exclusion among the living; that nobody sleeps for ever (an invalid end state otherwise); that the
 * reaper's marking never hits a living owner.
 *
 * -DNO_RECHECK leaves the epoch out, -DKEEP_TOKEN lets a woken waiter keep WOKEN when it sleeps again, -DLOSE_WAITERS lets it
 * take the word without setting WAITERS: each must be found wrong. */
#define N 3
#define FREE 0
#define ORPHAN 9
#define TAKEABLE (owner == FREE || owner == ORPHAN)

byte owner = FREE;
bool waiters, woken;
bool asleep[N];
bool dead[N];
bool killed;
bit epoch;
bit inside;

/* Picks any sleeper; n says whether there was one. Its choice is the kernel's. */
inline futex_wake(n) {
    atomic {
        if
        :: asleep[0] -> asleep[0] = false; n = 1
        :: asleep[1] -> asleep[1] = false; n = 1
        :: asleep[2] -> asleep[2] = false; n = 1
        :: !asleep[0] && !asleep[1] && !asleep[2] -> n = 0
        fi
    }
}

inline wake_one(n, again) {
    do
    :: again ->
        futex_wake(n);
        atomic {
            if
            :: n == 1 -> n = 0; again = false
            :: n == 0 && !woken -> again = false
            :: n == 0 && woken && TAKEABLE && waiters -> waiters = false
            :: n == 0 && woken && !(TAKEABLE && waiters) -> woken = false; again = false
            fi
        }
    :: else -> break
    od
}

/* Steps that touch nothing shared go with the step before them: they make no difference to others. */
proctype participant(byte me; byte rounds) {
    byte seen_owner;
    bit n, seen_epoch;
    bool was_asleep, got, again, seen_waiters, seen_woken, worth, watching;
    {
        true;
next_round:
        atomic { /* take */
            if
            :: TAKEABLE ->
                owner = me + 1; got = true;
                if
                :: was_asleep ->
                    woken = false;
#ifndef LOSE_WAITERS
                    waiters = true
#endif
                :: else
                fi
            :: else
            fi
        }
        if
        :: atomic { got -> was_asleep = false; got = false; watching = false; seen_epoch = 0 }
        :: atomic { /* announce */
               !got ->
               worth = !TAKEABLE;
               if
               :: worth ->
                   waiters = true;
#ifndef KEEP_TOKEN
                   if
                   :: was_asleep -> woken = false
                   :: else
                   fi;
#endif
                   was_asleep = true;
                   seen_owner = owner; seen_waiters = waiters; seen_woken = woken
               :: else -> goto next_round
               fi
           }
           atomic {
               worth = false;
               if
               :: !watching -> watching = true; seen_epoch = epoch /* the short sleep ran out */
               :: else -> /* the kernel compares */
                   asleep[me] = (owner == seen_owner && waiters == seen_waiters && woken == seen_woken &&
                                 epoch == seen_epoch)
               fi;
               seen_owner = 0; seen_waiters = false; seen_woken = false
           }
           atomic { !asleep[me]; seen_epoch = epoch; goto next_round }
        fi;
        atomic { assert(!inside); inside = 1 }
        atomic { /* give_up */
            assert(owner == me + 1);
            inside = 0; owner = FREE; rounds--;
            if
            :: waiters && !woken -> waiters = false; woken = true; again = true
            :: else
            fi
        }
        if
        :: again -> wake_one(n, again)
        :: else
        fi;
        if
        :: rounds > 0 -> goto next_round
        :: else
        fi
    } unless { dead[me] }
}

proctype killer() {
    byte victim;
    if
    :: true
    :: atomic {
           if
           :: victim = 0
           :: victim = 1
           :: victim = 2
           fi;
           dead[victim] = true; asleep[victim] = false; killed = true
       }
    fi
}

proctype reaper() {
    byte victim;
    bit n;
    bool again;
end_idle:
    killed;
    atomic {
        if
        :: dead[0] -> victim = 0
        :: dead[1] -> victim = 1
        :: dead[2] -> victim = 2
        fi
    }
    atomic { /* mpf_mutex_recover */
        if
        :: owner == victim + 1 ->
            owner = ORPHAN; inside = 0;
            if
            :: waiters && !woken -> waiters = false; woken = true; again = true
            :: else
            fi
        :: else
        fi
    }
    if
    :: again -> wake_one(n, again)
    :: else
    fi;
#ifndef NO_RECHECK
    atomic { epoch = 1; asleep[0] = false; asleep[1] = false; asleep[2] = false }
#endif
}

init {
    atomic {
        run participant(0, 2); run participant(1, 1); run participant(2, 1);
        run killer(); run reaper()
    }
}
