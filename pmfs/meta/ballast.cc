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
  return {l->snapshots, l->intents, sizeof(l->snapshots), sizeof(l->intents), kNodeBytes};
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
      logs());
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
          logs());
    } catch (const PoolFull&) {
      batch /= 2;
    }
  }
}

}  // namespace pmfs::meta
