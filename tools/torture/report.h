// What a run has found and how fast it was: progress line, summary, JSON.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "pmfs/proto/protocol.h"
#include "tools/torture/control_block.h"
#include "tools/torture/options.h"

namespace torture {

struct Found {
  std::string kind, text;
  std::vector<std::string> interleaved;  // the operations that met, newest first
  std::string trace;                     // the manager's last operations on the block
  std::string met;                       // the two of them that met
};

struct Totals {
  uint64_t faults = 0, invalidates = 0, retries = 0, canary_errors = 0, installs = 0;
  uint64_t fault_p50_ns = 0, fault_p99_ns = 0, fault_p999_ns = 0, invalidate_p50_ns = 0, invalidate_p99_ns = 0;
};

struct Summary {
  Totals totals;
  double seconds = 0;
  uint64_t kills = 0, manager_kills = 0, stops = 0, sigbus = 0, no_space = 0, pte_rounds = 0, pte_pages = 0;
  std::map<std::string, uint64_t> ops;
  std::vector<Found> violations;
  std::string note;
};

Totals operator+(const Totals& dead, const Totals& now);  // quantiles are those of now
Totals totals_of(const pmfs::proto::WireCounters& now, const pmfs::proto::WireCounters& start);
Totals totals_of_target(const ControlBlock& cb);
// The operations of all clients that met around a violation.
std::vector<std::string> interleaved(const ControlBlock& cb, const Violation& v);
// The last install and the last taking away that the manager remembers of the block: "A | B", or empty.
std::string met(const std::string& trace);
void print_progress(const Totals& now, const Totals& before, double seconds, double total, size_t violations);
void print_summary(const Options& o, const Summary& s);

}  // namespace torture
