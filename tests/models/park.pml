/* Model of src/sync/park.c with src/sync/semaphore.c on top: two waiters, two releasers of one permit each, one
 * kill of a waiter or a releaser before any of its steps, and a bystander that sleeps on something else.
 *
 * A death marks the victim's life word and wakes one of those who listen to it, as the kernel does with a robust
 * mutex: a waiter, or the bystander. Whoever looks at the participants reaps: it bumps the epoch and wakes all who listen. A long sleep is mpf_park's: list
 * the life words, reap, compare the epoch, and let the kernel compare word, epoch and life words.
 *
 * Checked when nothing can move any more: nobody alive is asleep while there is a permit.
 *
 * -DNO_LIFE sleeps on the word alone, -DNO_EPOCH on word and life words, -DNO_CHAIN lets a woken waiter leave further
 * permits to themselves: each must be found wrong. */
#define WAITERS 2
#define N 4

byte permits;
bool sleepers;     /* the flag in the word */
bit epoch;
bool died;         /* the victim's life word */
bool is_reaped;
bool dead[N];
bool bystander_woken;
bool asleep[WAITERS];
bool long_sleep[WAITERS];

inline wake_word() {
    atomic {
        if
        :: asleep[0] -> asleep[0] = false
        :: asleep[1] -> asleep[1] = false
        :: !asleep[0] && !asleep[1]
        fi
    }
}

inline wake_long() {
    atomic {
        if
        :: long_sleep[0] -> asleep[0] = false
        :: else
        fi;
        if
        :: long_sleep[1] -> asleep[1] = false
        :: else
        fi
    }
}

/* mpf_participant_reap: a reaper that is killed in the middle leaves the rest to the next one. */
inline reap() {
    if
    :: died && !is_reaped ->
#ifndef NO_EPOCH
        atomic { epoch = 1; wake_long() }
#endif
        is_reaped = true
    :: else
    fi
}

proctype waiter(byte me) {
    bit seen_epoch;
    bool was_asleep, watching, listed, changed, more, got;
    {
        do
        :: !got ->
            atomic { /* mpf_semaphore_try, take_woken */
                more = false;
                if
                :: permits > 0 ->
                    permits--; got = true;
                    if
                    :: was_asleep -> more = (permits > 0); sleepers = !more
                    :: else
                    fi
                :: else
                fi
            }
            if
            :: got ->
#ifndef NO_CHAIN
                if
                :: more -> wake_word()
                :: else
                fi;
#endif
                break
            :: else
            fi;
            atomic { /* announce */
                changed = (permits > 0);
                if
                :: !changed -> sleepers = true
                :: else
                fi
            }
            if
            :: changed
            :: else ->
                was_asleep = true;
                if
                :: !watching -> /* the short sleep ran out: look at everything */
                    reap();
                    seen_epoch = epoch;
                    watching = true
                :: else ->
                    listed = died;
                    reap();
                    if
                    :: epoch != seen_epoch -> seen_epoch = epoch
                    :: else ->
                        atomic {
                            asleep[me] = (permits == 0 && sleepers);
#ifndef NO_LIFE
                            asleep[me] = asleep[me] && epoch == seen_epoch && listed == died;
                            long_sleep[me] = asleep[me];
#endif
                            listed = false
                        }
                        !asleep[me];
                        long_sleep[me] = false
                    fi
                fi
            fi
        :: else -> break
        od
    } unless { dead[me] }
}

proctype releaser(byte me) {
    bool wake;
    {
        atomic { permits++; wake = sleepers; sleepers = false }
        if
        :: wake -> wake_word()
        :: else
        fi
    } unless { dead[me] }
}

proctype bystander() {
end_asleep:
    bystander_woken;
    reap()
}

proctype killer() {
    byte victim;
    if
    :: true
    :: atomic {
           if
           :: victim = 0
           :: victim = 2
           fi;
           dead[victim] = true; died = true;
           if
           :: victim == 0 -> asleep[0] = false; long_sleep[0] = false
           :: else
           fi;
           if /* the kernel wakes one of those who listen to the life word */
           :: long_sleep[0] && asleep[0] -> asleep[0] = false
           :: long_sleep[1] && asleep[1] -> asleep[1] = false
           :: bystander_woken = true
           fi
       }
    fi
}

proctype judge() {
    timeout;
    assert(permits == 0 || ((dead[0] || !asleep[0]) && (dead[1] || !asleep[1])))
}

init {
    atomic {
        run waiter(0); run waiter(1); run releaser(2); run releaser(3);
        run bystander(); run killer(); run judge()
    }
}
