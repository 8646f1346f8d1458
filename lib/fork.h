// fork() support, and the gate that keeps a fork out of half-done changes.
//
// Whatever changes which handles, mappings or sessions exist runs inside a ForkGate::Pass. The fork handler closes
// the gate, waits until nobody is inside, asks every manager for a snapshot of this client (Op::kForkPrepare) and
// forks. So the manager's snapshot and the memory that the child inherits agree, and no mutex of the library is
// held by a thread that does not exist in the child.
//
// Order: the gate is outermost. Inside it, any other mutex of the library. Passes nest.
#pragma once

#include <atomic>
#include <cstdint>

#include "pmfs/base/mutex.h"

namespace pmfs {

class Session;

class ForkGate {
 public:
  class Pass {
   public:
    Pass() { enter(); }
    ~Pass() { leave(); }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
  };

 private:
  friend class Pass;
  friend struct ForkHandlers;
  static void enter();
  static void leave();
};

// Live sessions, for the fork handlers. Call inside a Pass.
void register_session(Session* s);
void unregister_session(Session* s);

}  // namespace pmfs
