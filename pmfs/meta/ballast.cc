#include "pmfs/meta/ballast.h"

#include <algorithm>

namespace pmfs::meta {

void Ballast::add() {
  auto b = make_persistent<BallastMedia>();
  m_.pop.direct(b)->next = m_.root->ballast_head;
  m_.root->ballast_head = b;
  m_.root->ballast_count += 1;
}

void Ballast::make() {
  while (!full()) add();
}

transaction::logs Ballast::logs() const {
  LogMedia* l = m_.pop.direct(m_.root->logs);
  return {l->snapshots, l->intents, sizeof(l->snapshots), sizeof(l->intents), 0};
}

transaction::logs Ballast::reserve() const {
  transaction::logs l = logs();
  l.min_allocation = kNodeBytes;
  return l;
}

void Ballast::release() {
  // Crash before: all ballast is there. After: none; the next mount or growing operation makes it again.
  transaction::run(
      m_.pop,
      [&] {
        while (m_.root->ballast_head.get()) {
          auto b = m_.root->ballast_head.get();
          m_.root->ballast_head = m_.pop.direct(b)->next;
          delete_persistent(m_.pop, b);
        }
        m_.root->ballast_count = 0;
      },
      reserve());
  reopen_runs();
}

// The heap allocates from a list of places it made when it last opened a run; what was freed in that run since
// is found only when the run is opened again, which a transaction that already took something from it can't do.
// So take all that the heap finds, and let the transaction fail: the next one opens the runs anew.
void Ballast::reopen_runs() {
  try {
    transaction::run(
        m_.pop,
        [&] {
          for (;;) make_persistent<BallastMedia>();
        },
        reserve());
  } catch (const PoolFull&) {
  }
}

void Ballast::refill() {
  uint64_t batch = 16;
  while (!full() && batch > 0) {
    // Crash before or after: so much ballast as the list says.
    try {
      transaction::run(
          m_.pop,
          [&] {
            for (uint64_t i = 0; i < batch && !full(); ++i) add();
          },
          reserve());
    } catch (const PoolFull&) {
      batch /= 2;
    }
  }
}

}  // namespace pmfs::meta
