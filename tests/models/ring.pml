/* Model of src/engine/ring.c: a parent that puts tasks into a chain of segments which it uses again, two workers that claim. Each
 * may be overtaken by everything while it stands between two steps; one may be killed with a task that it has just claimed (at any other
 * moment that is the same as standing still for good, or leaves nothing behind).
 *
 * A segment holds one slot, so that every put takes the next segment. The parent settles a claimed task at any moment: its segment
 * leaves the chain, gets a void base, and comes back with another ordinal.
 *
 * Checked: no task is claimed twice, nor under another's ordinal; and when nothing can move any more all tasks are claimed, unless
 * the last worker is dead.
 *
 * -DNO_VOID believes an empty slot whatever the base says, -DNO_ORDINAL compares only the status when it claims, -DNO_FRONT
 * does not look whether the segment that a worker begins with is still at the front: each must be found wrong. */
#define SEGMENTS 2
#define TASKS 4
#define VOID 15

mtype = { FREE, PENDING, CLAIMED };

byte head = 1;
byte first;
byte next[SEGMENTS + 1];
byte base[SEGMENTS + 1] = VOID;
byte ordinal[SEGMENTS + 1];
mtype status[SEGMENTS + 1] = FREE;

byte put = 0;                 /* tasks put so far: ordinals 1 .. put */
bool claimed[TASKS + 2];
byte waiting;                 /* workers that found nothing; a put wakes them */

proctype worker(byte me) {
    byte segment, at, found, seen_base, seen_head, seen_next, seen_ordinal, seen_put;
    mtype seen_status;
again:
    segment = first;
    seen_base = base[segment];
    if
    :: seen_base == VOID -> goto again
    :: else
    fi;
#ifndef NO_FRONT
    if
    :: first != segment -> goto again
    :: else
    fi;
#endif
    at = seen_base;
look:
    seen_put = put; /* as the key of an eventcount: what is put from here on wakes */
    seen_head = head;
catch_up:
    if
    :: seen_head > at -> at = (seen_head < seen_base + 1 -> seen_head : seen_base + 1)
    :: else
    fi;
    if
    :: at < seen_base + 1 -> goto slot
    :: else
    fi;
    seen_next = next[segment];
    if
    :: seen_next == 0 -> goto doubt
    :: else
    fi;
    if
    :: base[seen_next] == seen_base + 1 -> segment = seen_next; seen_base = seen_base + 1; at = seen_base; goto catch_up
    :: else -> goto again
    fi;
slot:
    atomic { seen_ordinal = ordinal[segment]; seen_status = status[segment] }
    if
    :: seen_ordinal == at && seen_status == CLAIMED -> at++; goto look
    :: seen_ordinal == at && seen_status == PENDING
    :: else -> goto doubt
    fi;
    atomic {
        if
#ifdef NO_ORDINAL
        :: status[segment] == PENDING ->
#else
        :: status[segment] == PENDING && ordinal[segment] == at ->
#endif
            assert(ordinal[segment] == at && !claimed[at]);
            status[segment] = CLAIMED;
            claimed[at] = true
        :: else -> goto look
        fi
    }
    at++;
    if
    :: true
    :: me == 0 -> goto killed
    fi;
    if
    :: head < at -> head = at
    :: else
    fi;
    goto look;
doubt:
#ifndef NO_VOID
    if
    :: base[segment] != seen_base -> goto again
    :: else
    fi;
#endif
    waiting++;
    put != seen_put; /* asleep */
    waiting--;
    goto look;
killed:
    skip
}

proctype parent() {
    byte current, last, victim, task = 1;
    do
    :: task > TASKS -> break
    :: else ->
        /* a segment that was never used, or one that is out of the chain with its task settled */
        if
        :: task <= SEGMENTS -> current = task
        :: else ->
            victim = first;
            (victim != last && status[victim] == CLAIMED); /* settled: the result came, or its worker died */
            first = next[victim];
            base[victim] = VOID;
            next[victim] = 0;
            d_step { status[victim] = FREE; ordinal[victim] = 0 }
            current = victim
        fi;
        base[current] = task;
        if
        :: last != 0 -> next[last] = current
        :: else -> first = current; run worker(0); run worker(1)
        fi;
        last = current;
        d_step { ordinal[current] = task; status[current] = PENDING }
        put = task; /* wakes whoever sleeps */
        task++
    od;
    timeout;
    task = 1;
    do
    :: task > TASKS -> break
    :: else -> assert(claimed[task]); task++
    od
}

init { run parent() }
