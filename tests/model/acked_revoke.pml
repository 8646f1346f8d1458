/* Revocation by acknowledgement (acked mode: fsdax and devdax regions), with a client that hangs, dies, or says that it
 * died; the blocks are quarantined until it has answered.
 *
 *   M1 map       lock entry, look up, post the VMA command, unlock. Nothing is waited for.
 *                pmfs/fault/handler.cc FaultHandler::show; mapping_acked.cc Mapping::map_direct (the VMA table says "pending")
 *   A1 obey      the client's agent executes commands in order and answers      lib/agent.cc
 *   I1 enter     marks, drain                                  Scheme::enter_invalidate
 *   I2 remove    extents leave the file, blocks go on the deferred-free list: the quarantine     meta/deferred.cc
 *   I3 revoke    to each client that has a VMA (or a pending command) for the pages: a command behind those
 *                queued before                                 fs/acked.cc MountedVolume::hold, Mapping::revoke
 *   I4 leave     marks off. No lock is held from here on.      Scheme::leave_invalidate
 *   I5 answers   of each client, or its death: the last reference to the Hold goes    fs/quarantine.cc, Session::agent_acks
 *   I6 free      MountedVolume::retire, finish
 *   D1 death     the kernel takes the VMAs away (exit_mm), after that it releases the life lock      fs/client_locks.h
 *   D2 fence     who doesn't answer in time is killed through its pidfd (--fence-after)     Server::fence_late
 *
 * To be refuted: -DNO_QUARANTINE (freed when the revoke is posted), -DTRUST_HANGUP (a closed socket counts as a death:
 * a client may close it and live), -DPOST_AFTER_UNLOCK (the map command is posted after the lock entry was given back),
 * -DNO_FENCE (deadlock: the invalidate waits for ever).
 *
 * Checked: P1, no deadlock, no livelock.
 */
#define CLIENTS 2
#define NOBLOCK 2
#define BLOCKS  2

mtype = { FREE, FILE_A, QUARANTINED, FILE_B, MAP, REVOKE }
mtype owner[BLOCKS] = FREE;

byte extent = NOBLOCK;                  /* of the one page in question */
bool locked, marked;

byte vma[CLIENTS] = NOBLOCK;            /* what the client can touch: the kernel resolves the faults in it */
bool has_vma[CLIENTS];                  /* the manager's table: a VMA is there, or a command for one is on its way */
bool dead[CLIENTS], hung[CLIENTS], closed[CLIENTS];
byte sent[CLIENTS], answered[CLIENTS];  /* commands, by number */
chan commands[CLIENTS] = [6] of { mtype, byte };

#define OK(c)   (vma[c] == NOBLOCK || owner[vma[c]] == FILE_A || owner[vma[c]] == QUARANTINED)
#define P1      assert(OK(0) && OK(1))

#ifdef TRUST_HANGUP
#define GONE(c) (dead[c] || closed[c])
#else
#define GONE(c) (dead[c])
#endif

inline post(c, what, b) { atomic { sent[c]++; commands[c]!what,b } }

inline answer(c) { atomic { if :: !dead[c] && !hung[c] -> answered[c]++ :: else fi } }

proctype Fault(byte c)
{
  byte b, n;
  for (n : 1 .. 1) {
    /* M1 */
    atomic { !locked && !marked -> locked = true };
    if
    :: extent != NOBLOCK -> b = extent
    :: else ->
       atomic {
         if
         :: owner[0] == FREE -> b = 0
         :: owner[1] == FREE -> b = 1
         :: else -> b = NOBLOCK                                          /* ENOSPC */
         fi;
         if :: b != NOBLOCK -> owner[b] = FILE_A; extent = b; P1 :: else fi
       }
    fi;
#ifdef POST_AFTER_UNLOCK
    locked = false;
#endif
    if
    :: b != NOBLOCK && !dead[c] -> atomic { has_vma[c] = true; sent[c]++; commands[c]!MAP,b }
    :: else
    fi;
#ifndef POST_AFTER_UNLOCK
    locked = false;
#endif
    b = 0;
progress: skip
  }
}

/* A1. May hang anywhere (SIGSTOP, a busy agent), close its socket and live on, or die. */
proctype Client(byte c)
{
  byte b;
end:
  do
  :: atomic { !dead[c] && !hung[c] && commands[c]?[MAP,b] -> commands[c]?MAP,b; vma[c] = b; P1 };
     answer(c)
  :: atomic { !dead[c] && !hung[c] && commands[c]?[REVOKE,b] -> commands[c]?REVOKE,b;
              if :: vma[c] == b -> vma[c] = NOBLOCK :: else fi };
     answer(c)
  :: atomic { c == 0 && !hung[c] && !dead[c] -> hung[c] = true }
#ifdef TRUST_HANGUP                     /* nobody else looks */
  :: atomic { c == 0 && !closed[c] && !dead[c] -> closed[c] = true }
#endif
  :: atomic { c == 1 && !dead[c] -> vma[c] = NOBLOCK; dead[c] = true }  /* D1 */
  :: dead[c] -> break
  od;
  do :: commands[c]?_,_ :: empty(commands[c]) -> break od
}

proctype Invalidate()
{
  byte b, c, upto[CLIENTS];
  bool asked[CLIENTS];
  byte n;
  for (n : 1 .. 2) {
    atomic { !marked -> marked = true }; !locked;                        /* I1 */
    b = extent;
    if
    :: b != NOBLOCK ->
       atomic { extent = NOBLOCK; owner[b] = QUARANTINED };              /* I2 */
       for (c : 0 .. CLIENTS - 1) {                                      /* I3 */
         asked[c] = has_vma[c] && !dead[c];
         if :: asked[c] -> post(c, REVOKE, b); upto[c] = sent[c]; has_vma[c] = false :: else fi
       }
       marked = false;                                                   /* I4 */
#ifndef NO_QUARANTINE
       for (c : 0 .. CLIENTS - 1) {                                      /* I5 */
         if
         :: asked[c] ->
            if
            :: answered[c] >= upto[c] || GONE(c)
#ifndef NO_FENCE
            :: atomic { hung[c] && !dead[c] -> vma[c] = NOBLOCK; dead[c] = true }   /* D2 */
#endif
            fi
         :: else
         fi
       }
#endif
       atomic { owner[b] = FREE; P1 }                                    /* I6 */
    :: else -> marked = false
    fi;
progress: skip
  }
}

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
    owner[0] = FILE_A; extent = 0;
    vma[0] = 0; has_vma[0] = true; vma[1] = 0; has_vma[1] = true;
    run Client(0); run Client(1);
    run Fault(1);
    run Invalidate();
#ifndef PROGRESS                        /* who waits for whom doesn't depend on them */
    run Fault(0);
    run Reuse()
#endif
  }
}
