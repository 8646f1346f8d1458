/* Faults against punch and truncate in gated mode, with freed blocks given to another file at once.
 *
 * What stands for what (the manager's code; each numbered step below is one of these):
 *   F1 enter     Scheme::enter_fault                    pmfs/fs/block_run.cc  BlockRun::attempt
 *   F2 lock      LockEntryTree::lock: compare-and-swap LOCKED, then read the marks     pmfs/exclusion/entry_tree.cc
 *   F3 size      i_size with the entry locked           BlockRun::attempt
 *   F4 look up   entry, else extent map, else a hole    BlockRun::probe
 *   F5 check     Scheme::fault_locked                   BlockRun::attempt
 *   F6 allocate  allocate + commit, one transaction     BlockRun::allocate, commit
 *   F7 resolved  Scheme::fault_resolved                 pmfs/fault/handler.cc FaultHandler::fault
 *   F8 install   UFFDIO_CONTINUE                        pmfs/fault/mapping.cc Mapping::install
 *   F9 unlock    LockEntryTree::unlock, leave_fault     BlockRun::~BlockRun
 *   I1 enter     Scheme::enter_invalidate               pmfs/fs/invalidate.cc Exclusive
 *   I2 remove    Store::remove_extents; i_size          MountedVolume::invalidate
 *   I3 zap       PUNCH_HOLE: every client's PTEs        MountedVolume::try_zap
 *   I4 unmapped  Scheme::unmapped                       MountedVolume::give_back
 *   I5 erase     LockEntryTree::erase                   MountedVolume::give_back
 *   I6 free      Store::finish_free                     MountedVolume::finish
 *   I7 leave     Scheme::leave_invalidate               Exclusive::~Exclusive
 * A client appears as its PTEs only: in gated mode nothing is ever asked of it, so slow, stopped and dead ones are
 * interleavings like any other. Several invalidates of a file are in order by the range lock (or what stands for it).
 *
 * Which scheme: -DRANGE (marks; range, entries), -DLOCKED (a lock held from enter to leave: range-only, invalidate,
 * mmap-lock, add-lock), -DSEQTEX, -DGENERATION; to be refuted: -DNONE, -DISIZE_ONLY, -DUNMAP_ONLY, and mistakes in the
 * sound ones: -DNO_DRAIN, -DMARK_BEFORE_LOCK (marks read before LOCKED is set), -DSEQTEX_NO_DRAIN, -DNO_BUSY_COUNT
 * (generation without "under way"), -DBUSY_WAIT (a fault at a mark looks again and again instead of sleeping: livelock).
 *
 * Checked: P1 (assert at every step that installs, frees or reuses), no deadlock (invalid end state), and with -DNP
 * no livelock (non-progress cycle; with -DPROGRESS, somewhat fewer processes): all operations are finite in number, so a
 * cycle would be a retry without end.
 */

#if defined(NO_DRAIN) || defined(MARK_BEFORE_LOCK) || defined(BUSY_WAIT) || defined(UNMAP_ONLY)
#define RANGE
#endif
#if defined(SEQTEX_NO_DRAIN)
#define SEQTEX
#endif
#if defined(NO_BUSY_COUNT)
#define GENERATION
#endif
#if defined(NONE) || defined(ISIZE_ONLY)
#define STEAL 1
#elif defined(UNMAP_ONLY)
#define STEAL 1
#else
#define STEAL 0
#endif

#define CLIENTS 2
#define PAGES   2
#define BLOCKS  3
#define NOBLOCK 3                       /* "no block" where a block is meant */

mtype = { FREE, FILE_A, DEFERRED, FILE_B }
mtype owner[BLOCKS] = FREE;

byte extent[PAGES] = NOBLOCK;           /* the extent map of file A */
byte entry[PAGES]  = NOBLOCK;           /* what its lock entry caches */
bool locked[PAGES];                     /* LOCKED */
bool stolen[PAGES];                     /* a broken scheme erased it under its holder */
bool marked[PAGES];
byte size = PAGES;                      /* i_size */
byte pte[4] = NOBLOCK;                  /* client * PAGES + page */

bool invalidating;                      /* the range lock among invalidates */
byte sharers; bool exclusive;           /* LOCKED, ISIZE_ONLY; slow paths of SEQTEX and GENERATION */
byte sequence;                          /* SEQTEX: odd while one is in */
byte generation, under_way;             /* GENERATION */

/* P1: whatever a client can touch is the file's, or at least not yet anybody else's. */
#define OK(i)  (pte[i] == NOBLOCK || owner[pte[i]] == FILE_A || owner[pte[i]] == DEFERRED)
#define P1     assert(OK(0) && OK(1) && OK(2) && OK(3))

inline lock_shared()   { atomic { !exclusive -> sharers++ } }
inline unlock_shared() { sharers-- }

inline take_entry(p) {
  do
  :: atomic { !locked[p] -> locked[p] = true; stolen[p] = false };      /* F2, first half */
#if defined(RANGE) && !defined(MARK_BEFORE_LOCK)
     if
     :: marked[p] -> locked[p] = false;                                 /* backs out, sleeps until unmarked */
#ifndef BUSY_WAIT
        !marked[p]
#endif
     :: else -> break
     fi
#else
     break
#endif
  od
}

inline give_entry(p, value) {
  atomic {
    if
    :: !stolen[p] -> entry[p] = value; locked[p] = false
    :: else                                                             /* unlock() says it is gone; nothing stored */
    fi
  }
}

proctype Fault(byte c; byte first; byte last)
{
  byte p, b, n, seen;
  bool slow, ok;
  for (p : first .. last) {
    slow = false; n = 0;
again:
    skip;
    /* F1 */
#if defined(LOCKED) || defined(ISIZE_ONLY)
    lock_shared();
#elif defined(SEQTEX)
    if :: n >= 2 -> lock_shared(); slow = true :: else fi;
    atomic { (sequence % 2 == 0) -> seen = sequence }
#elif defined(GENERATION)
    atomic { seen = generation; if :: n > 0 || under_way > 0 -> slow = true :: else fi };
#ifdef NO_BUSY_COUNT
    slow = false;
#endif
    if :: slow -> lock_shared() :: else fi;
#elif defined(MARK_BEFORE_LOCK)
    !marked[p];
#endif
    take_entry(p);
    /* F3 */
#ifndef NONE
    if
    :: p >= size -> give_entry(p, entry[p]); goto leave                 /* beyond EOF */
    :: else
    fi;
#endif
    /* F4 */
    if
    :: entry[p] != NOBLOCK -> b = entry[p]
    :: else -> b = extent[p]
    fi;
    /* F5 */
    atomic {                                                            /* one load of one word */
      ok = true;
#if defined(SEQTEX)
      if :: sequence != seen -> ok = false :: else fi;
#elif defined(GENERATION)
      if :: !slow && generation != seen -> ok = false :: else fi;
#ifndef NO_BUSY_COUNT
      if :: !slow && under_way > 0 -> ok = false :: else fi;
#endif
#endif
      if :: !ok -> n++ :: else -> seen = 0 fi
    };
    if
    :: !ok ->
       give_entry(p, entry[p]);
       if :: slow -> unlock_shared(); slow = false :: else fi;
       goto again
    :: else
    fi;
    /* F6 */
    if
    :: b == NOBLOCK ->
       atomic {
         if
         :: owner[0] == FREE -> b = 0
         :: owner[1] == FREE -> b = 1
         :: owner[2] == FREE -> b = 2
         :: else                                                        /* ENOSPC */
         fi;
         if :: b != NOBLOCK -> owner[b] = FILE_A; extent[p] = b; P1 :: else fi
       }
    :: else
    fi;
    /* F7 */
#ifdef ISIZE_ONLY
    unlock_shared(); slow = true;
#endif
    /* F8 */
    if
    :: b != NOBLOCK -> atomic { pte[c * PAGES + p] = b; P1 }
    :: else
    fi;
    /* F9 */
    give_entry(p, b);
leave:
#if defined(LOCKED)
    unlock_shared();
#elif defined(ISIZE_ONLY)
    if :: !slow -> unlock_shared() :: else fi;                          /* not resolved */
#elif defined(SEQTEX) || defined(GENERATION)
    if :: slow -> unlock_shared() :: else fi;
#endif
progress: skip
  }
}

inline unmark() { atomic { marked[0] = false; marked[1] = false } }

proctype Invalidate(byte first; byte end; byte new_size)                /* pages [first, end) */
{
  byte gone[PAGES];
  byte q;
  /* I1 */
  atomic { !invalidating -> invalidating = true };
#if defined(LOCKED) || defined(ISIZE_ONLY)
  atomic { !exclusive && sharers == 0 -> exclusive = true };
#elif defined(RANGE)
  for (q : first .. end - 1) { marked[q] = true }
#ifndef NO_DRAIN
  for (q : first .. end - 1) { !locked[q] }
#endif
#elif defined(SEQTEX)
  atomic { !exclusive && sharers == 0 -> exclusive = true };
  sequence++;
#ifndef SEQTEX_NO_DRAIN
  for (q : first .. end - 1) { !locked[q] }
#endif
#elif defined(GENERATION)
  atomic { !exclusive && sharers == 0 -> exclusive = true };
  atomic { generation++; under_way++ };
  for (q : first .. end - 1) { !locked[q] }
#endif
  /* I2 */
  atomic {
    for (q : first .. end - 1) {
      gone[q] = extent[q];
      extent[q] = NOBLOCK;
      if :: gone[q] != NOBLOCK -> owner[gone[q]] = DEFERRED :: else fi
    }
  };
  if :: new_size < size -> size = new_size :: else fi;
  /* I3 */
  for (q : first .. end - 1) {
    atomic {
      if
      :: gone[q] != NOBLOCK ->
         if :: pte[0] == gone[q] -> pte[0] = NOBLOCK :: else fi;
         if :: pte[1] == gone[q] -> pte[1] = NOBLOCK :: else fi;
         if :: pte[2] == gone[q] -> pte[2] = NOBLOCK :: else fi;
         if :: pte[3] == gone[q] -> pte[3] = NOBLOCK :: else fi
      :: else
      fi
    }
  }
  /* I4 */
#ifdef UNMAP_ONLY
  unmark();
#endif
  /* I5 */
  for (q : first .. end - 1) {
    atomic {
      (STEAL || !locked[q]) -> entry[q] = NOBLOCK;
      if :: locked[q] -> stolen[q] = true; locked[q] = false :: else fi
    }
  }
  /* I6 */
  for (q : first .. end - 1) {
    if
    :: gone[q] != NOBLOCK -> atomic { owner[gone[q]] = FREE; P1 }
    :: else
    fi
  }
  /* I7 */
#if defined(RANGE)
  unmark();
#elif defined(SEQTEX)
  sequence++; exclusive = false;
#elif defined(GENERATION)
  under_way--; exclusive = false;
#elif defined(LOCKED) || defined(ISIZE_ONLY)
  exclusive = false;
#endif
  invalidating = false;
progress: skip
}

/* Another file that takes whatever is free. Its own blocks are given back without clients: nothing maps it. */
proctype Reuse()
{
  byte b;
  for (b : 0 .. BLOCKS - 1) {
    if
    :: atomic { owner[b] == FREE -> owner[b] = FILE_B; P1 }
    :: skip
    fi
  }
progress: skip
}

init {
  atomic {
    /* File A begins with both pages, known to its entries and mapped by client 0. */
    owner[0] = FILE_A; extent[0] = 0; entry[0] = 0; pte[0] = 0;
    owner[1] = FILE_A; extent[1] = 1; pte[1] = 1;
    run Fault(0, 0, 1);
    run Invalidate(1, 2, PAGES);        /* punch of page 1 */
    run Invalidate(0, 2, 0);            /* truncate to 0 */
#ifdef PROGRESS                         /* who waits for whom doesn't depend on who owns a block */
    run Fault(1, 1, 1)
#else
    run Fault(1, 0, 1);
    run Reuse()
#endif
  }
}
