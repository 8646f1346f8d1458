#include "lib/fork.h"

#include <pthread.h>

#include <algorithm>
#include <vector>

#include "lib/mapping.h"
#include "lib/session.h"

namespace pmfs {
namespace {

constexpr uint32_t kForking = 1u << 31;

struct State {
  Mutex entry{LockRank::kServer, "fork gate"};  // held from prepare to parent/child; else for an instant
  std::atomic<uint32_t> inside{0};              // threads inside, and kForking while one waits for them; futex word
  std::vector<Session*> sessions;               // guarded by `list`
  Mutex list{LockRank::kLeaf, "session list"};
};

State& state() {
  static State* s = new State;  // never destroyed: sessions may outlive static destruction
  return *s;
}

thread_local unsigned t_depth = 0;  // passes of this thread

}  // namespace

void ForkGate::enter() {
  if (t_depth++ != 0) return;
  State& s = state();
  MutexLock l(s.entry);
  s.inside.fetch_add(1, std::memory_order_seq_cst);
}

void ForkGate::leave() {
  if (--t_depth != 0) return;
  State& s = state();
  if (s.inside.fetch_sub(1, std::memory_order_seq_cst) == (kForking | 1)) proto::futex_wake(&s.inside, 1);
}

// The pthread_atfork handlers. The forking thread counts as inside while they run, so that passes nest.
struct ForkHandlers {
  static void prepare() NO_THREAD_SAFETY_ANALYSIS {
    State& s = state();
    if (t_depth++ != 0) return;  // forked from inside the library (a user's callback): nothing to wait for
    s.entry.Lock();
    s.inside.fetch_or(kForking, std::memory_order_seq_cst);
    for (uint32_t n; (n = s.inside.load(std::memory_order_seq_cst)) != kForking;) proto::futex_wait(&s.inside, n, 1'000'000'000);
    for (Session* session : s.sessions) session->prepare_fork();
  }
  static void parent() NO_THREAD_SAFETY_ANALYSIS {
    State& s = state();
    if (--t_depth != 0) return;
    for (Session* session : s.sessions) session->resume_in_parent();
    open_gate(s);
  }
  static void child() NO_THREAD_SAFETY_ANALYSIS {
    State& s = state();
    if (--t_depth != 0) return;
    ++t_depth;
    reserve_inherited_ranges();  // before anything else can be given these addresses
    for (Session* session : s.sessions) session->drop_inherited();
    for (Session* session : s.sessions) session->reattach_in_child();
    --t_depth;
    open_gate(s);
  }

 private:
  static void open_gate(State& s) NO_THREAD_SAFETY_ANALYSIS {
    s.inside.fetch_and(~kForking, std::memory_order_seq_cst);
    s.entry.Unlock();
  }
};

void register_session(Session* session) {
  static const int once = pthread_atfork(ForkHandlers::prepare, ForkHandlers::parent, ForkHandlers::child);
  static_cast<void>(once);
  MutexLock l(state().list);
  state().sessions.push_back(session);
}

void unregister_session(Session* session) {
  MutexLock l(state().list);
  std::erase(state().sessions, session);
}

}  // namespace pmfs
