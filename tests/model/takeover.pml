/* A manager that dies at any step, and a client with one mapping of one page that goes to the next one.
 *
 * manager_restart.pml has the blocks; here are the mapping, the store, and who may move the page. Persistent: where the page's
 * contents are (two places, old and new), and the client's lock. The rest dies with the manager.
 *   C1..C3 client    a store: through its PTE, or a fault that waits in the kernel until somebody wakes it and it faults again
 *   K1..K4 keeper    sees the manager gone; hello, mapping handed over, done; then drops its old lock    lib/keeper.cc attach
 *   A1     agent     executes the command: the sentinel over the whole mapping takes the PTE away, then the thread is woken
 *                    lib/agent.cc map_into_place; pmfs/fault/mapping.cc put_back, vma_done
 *   F1..F2 fault     an event is answered by installing a PTE, if the VMA table is sure (nothing pending)
 *                    pmfs/fault/mapping.cc install; handler.cc: an event of an unknown mapping is dropped while it reattaches
 *   E1..E4 evacuate  refused while a stranger lives; write-protect who may have a PTE; copy; swap in a transaction; zap
 *                    pmfs/fs/shift.cc evacuate, maybe_mapped; pmfs/fs/takeover.cc strangers
 *   X      death     kill -9 at any step of the manager
 *
 * Checked: no store is lost: what the file holds is the last store that was executed (assertion at the end of each move and
 * of the whole). Every store ends: the client is never left waiting while a manager lives (an invalid end state else).
 *
 * To be refuted: -DMOVE_UNDER_STRANGERS (evacuate does not look for clients that have not come back), -DDROP_LOCK_EARLY (the
 * client drops its old lock with the hello, before its mapping is known), -DNO_FOREIGN (a mapping taken over counts as one
 * without PTEs), -DNO_WAKE (the command's answer wakes nobody).
 */
#define LIVES  3                    /* managers: LIVES - 1 deaths */
#define STORES 2
#define MOVES  3

byte life = 1;
bool up = true;                     /* a manager serves */

byte place = 0;                     /* persistent: which block the page has */
byte content[2];                    /* of the two blocks */
byte last = 0;                      /* the last store that was executed */

bool lock_old = false;              /* the client holds a lock of a former manager */
bool known = true;                  /* this manager knows the mapping */
bool foreign = false;               /* taken over, not yet put back */
bool pending = false;               /* a sentinel command is posted */
bool dirty = true;                  /* this manager installed a writable PTE since the mapping was put back */

bool pte = true;                    /* of the client, on block pte_at */
byte pte_at = 0;
bool protect = false;               /* the PTE is write-protected */
bool waiting = false;               /* the thread sleeps in a fault */
bool event = false;                 /* its event is queued, unread */
bool done_storing = false;
byte moves = 0;

#ifdef MOVE_UNDER_STRANGERS
#define MAY_MOVE true
#else
#define MAY_MOVE (!lock_old)
#endif
#define KEPT assert(content[place] == last)

proctype Client()
{
  byte n;
  for (n : 1 .. STORES) {
again:
    if
    :: atomic { pte && !protect -> content[pte_at] = n; last = n }                         /* C1 */
    :: atomic { !(pte && !protect) -> waiting = true; event = true };                       /* C2 */
       !waiting;                                                                            /* C3: woken */
       goto again
    fi
  };
  done_storing = true
}

/* The agent executes what was posted, by whichever manager, also when that one is dead (the keeper reads the events). */
proctype Agent()
{
end:
  do
  :: atomic { pending ->                                                                    /* A1 */
       pte = false; protect = false;
       pending = false;
       foreign = false;
#ifndef NO_WAKE
       waiting = false
#else
       skip
#endif
     }
  od
}

proctype Keeper()
{
  byte seen = 1;
end:
  do
  :: atomic { up && life != seen && !pending ->                                             /* K1: hello */
       seen = life;
#ifdef DROP_LOCK_EARLY
       lock_old = false
#endif
     };
     if
     :: atomic { up && life == seen ->                                                      /* K2: the mapping */
          known = true;
#ifndef NO_FOREIGN
          foreign = true
#endif
        };
        if
        :: atomic { up && life == seen -> pending = true };                                 /* K3: done, the command */
           atomic {                                                                         /* K4: only now */
             if
             :: up && life == seen -> lock_old = false
             :: else
             fi
           }
        :: !up || life != seen
        fi
     :: !up || life != seen
    fi
  od
}

#define CUT  if :: life < LIVES -> goto died :: skip fi

proctype Manager()
{
  byte to;
end:
  do
  :: atomic { event && known && !pending && !foreign -> event = false };                    /* F1 */
     CUT;
     atomic { pte = true; pte_at = place; protect = false; dirty = true; waiting = false };  /* F2 */
     CUT
  :: atomic { event && (!known || pending || foreign) -> event = false };                   /* dropped: the put-back wakes */
     CUT
  :: atomic { !done_storing && moves < MOVES && MAY_MOVE -> moves++; to = 1 - place };      /* E1 */
     CUT;
     if
     :: dirty || foreign ->
        protect = pte;                                                                      /* E2 */
        CUT;
        content[to] = content[place];                                                       /* E3: copy */
        CUT;
        place = to;                                                                         /* one transaction */
        CUT;
        atomic { if :: pte && pte_at != place -> pte = false; protect = false :: else fi };  /* E4: zap */
        CUT
     :: else ->                         /* nobody has a PTE: the block itself moves, with what it holds */
        atomic { content[to] = content[place]; place = to };
        CUT
     fi;
     KEPT;
     if                                 /* who was held up by the protection */
     :: event -> skip
     :: else -> waiting = false
     fi
  :: atomic { done_storing && !event && !pending && !waiting -> KEPT; break }
  od;
  goto over;
died:
  atomic {                              /* X: the PTE, the lock and what waits in the kernel stay */
    up = false;
    lock_old = true; known = false; foreign = false; dirty = false;
    to = 0
  };
  atomic {                              /* the next mount: deferred blocks are zapped first (pte on the block that was left) */
    if :: pte && pte_at != place -> pte = false; protect = false :: else fi;
    life++; up = true
  };
  goto end;
over:
  skip
}

init { atomic { run Client(); run Agent(); run Keeper(); run Manager() } }
