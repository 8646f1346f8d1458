/* A manager that is killed at any step, and the next one on the same volume, with clients that keep their PTEs.
 *
 * Persistent is what the metadata pool says (extent map, deferred-free list); each change of it is one transaction. All
 * else - entries, reservations, zero blocks, locks, the free list's knowledge of what is zero - dies with the manager.
 *   F1..F4 fault     reserve, install as a zero block (keep_zero), or commit and install    pmfs/fs/block_run.cc
 *   I1..I4 punch     remove_extents + deferred-free list in one transaction; zap; finish_free
 *                    pmfs/fs/invalidate.cc MountedVolume::invalidate, give_back, finish
 *   X      death     kill -9: the PTEs stay, faults stall (the client keeps the userfaultfd open)
 *   R1..R2 mount     deferred-free list: zap first, then finish_free    pmfs/fs/volume.cc MountedVolume::recover
 *   H1..H2 hand out  after an unclean end nothing is assumed of a free block: zapped before it is given to anybody
 *                    pmfs/region/shmem_region.cc make_zero, state kUnknown
 * Lock entries and invalidates are fault_invalidate.pml's business; here fault and punch are one thread, as the marks
 * would have them, and what is new is the cut through it.
 *
 * Checked: P1 in the form that a crash leaves it: no client can touch a block that somebody else has been given, nor one
 * of the file's that isn't at that page. (A zero block that only the dead manager knew of is free on the media and may
 * still be mapped, read-only and zero, until it is handed out; nobody else's data is ever in it.) And that the manager
 * always comes up again (no deadlock) and ends (no livelock).
 *
 * To be refuted: -DFREE_BEFORE_ZAP (recovery frees, then zaps), -DTRUST_FREE (free blocks are taken for unmapped after
 * an unclean end), -DTWO_TRANSACTIONS (extents leave in one, the deferred-free list gets them in another: a leak).
 */
#define CLIENTS 2
#define BLOCKS  2
#define NOBLOCK 2
#define LIVES   3                       /* kills: LIVES - 1 */

mtype = { FREE, FILE_A, DEFERRED, FILE_B };
mtype media[BLOCKS] = FREE;             /* persistent: bitmap, owner, deferred-free list */
byte extent = NOBLOCK;                  /* persistent: of the one page of file A */
bool lost[BLOCKS];                      /* set in the bitmap, of no file, on no list */

byte entry = NOBLOCK;                   /* volatile: cached block, or the zero block */
bool reserved[BLOCKS], unknown[BLOCKS]; /* volatile: of a fault under way or a zero block; may be mapped somewhere */

byte pte[CLIENTS] = NOBLOCK;
byte life = 1;

#define OK(c)  (pte[c] == NOBLOCK || media[pte[c]] != FILE_B)
#define P1     assert(OK(0) && OK(1))
#define LEAK   assert(!lost[0] && !lost[1])

inline zap(b) {
  atomic {
    if :: pte[0] == b -> pte[0] = NOBLOCK :: else fi;
    if :: pte[1] == b -> pte[1] = NOBLOCK :: else fi;
    unknown[b] = false
  }
}

/* A free block, zapped if need be: to a fault of file A, or to file B. Leaves NOBLOCK if there is none. */
inline hand_out(b) {
  atomic {
    if
    :: media[0] == FREE && !reserved[0] -> b = 0
    :: media[1] == FREE && !reserved[1] -> b = 1
    :: else -> b = NOBLOCK
    fi;
    if :: b != NOBLOCK -> reserved[b] = true :: else fi
  };
#ifndef TRUST_FREE
  if :: b != NOBLOCK && unknown[b] -> zap(b) :: else fi                  /* H1 */
#endif
}

#define CUT    if :: life < LIVES -> goto died :: skip fi               /* kill -9 here, or not */

proctype Manager()
{
  byte b, c, n;
mount:
  unknown[0] = (life > 1 || unknown[0]);
  unknown[1] = (life > 1 || unknown[1]);
  do                                                                    /* R1, R2 */
  :: atomic { media[0] == DEFERRED || media[1] == DEFERRED -> b = (media[0] == DEFERRED -> 0 : 1) };
#ifdef FREE_BEFORE_ZAP
     media[b] = FREE; CUT;
     unknown[b] = false                                                 /* as if it had been zapped */
#else
     zap(b); CUT;
     media[b] = FREE; CUT
#endif
  :: else -> break
  od;
  for (n : 1 .. 3) {
    if
    :: c = 0
    :: c = 1
    fi;
    if
    :: skip;                                                            /* a fault of client c on the page: F1 */
       if
       :: entry != NOBLOCK -> b = entry
       :: else -> b = extent
       fi;
       if
       :: b == NOBLOCK ->
          hand_out(b); CUT;                                             /* F2 */
          if :: b != NOBLOCK -> entry = b :: else fi
       :: else
       fi;
       if
       :: b != NOBLOCK ->
          if                                                            /* F3: a store commits, a load keeps zeros */
          :: atomic { media[b] = FILE_A; extent = b; reserved[b] = false }
          :: skip
          fi;
          CUT;
          atomic { pte[c] = b; P1 };                                    /* F4 */
          CUT
       :: else
       fi
    :: skip;                                                            /* punch: I1 */
       b = extent;
       if
       :: b != NOBLOCK ->
#ifdef TWO_TRANSACTIONS
          atomic { extent = NOBLOCK; lost[b] = true }; CUT;
          atomic { media[b] = DEFERRED; lost[b] = false }; CUT;
#else
          atomic { extent = NOBLOCK; media[b] = DEFERRED }; CUT;
#endif
          zap(b); CUT;                                                  /* I2 */
          entry = NOBLOCK;                                              /* I3 */
          atomic { media[b] = FREE; P1 };                               /* I4 */
          CUT
       :: else ->                                                       /* a zero block goes */
          if
          :: entry != NOBLOCK -> b = entry; zap(b); CUT; entry = NOBLOCK; reserved[b] = false
          :: else
          fi
       fi
    :: skip;                                                            /* file B takes a block: H2 */
       hand_out(b); CUT;
       if
       :: b != NOBLOCK -> atomic { media[b] = FILE_B; reserved[b] = false; P1 }; CUT
       :: else
       fi
    fi
progress:
    skip
  }
  goto done;
died:
  atomic {                              /* what was in the process is gone */
    entry = NOBLOCK; reserved[0] = false; reserved[1] = false;
    b = 0; c = 0; n = 0;
    life++;
    LEAK
  };
  goto mount;
done:
  skip
}

init { atomic { media[0] = FILE_A; extent = 0; pte[0] = 0; run Manager() } }
