#include "tools/pmfs/figures.h"

#include <algorithm>

#include "lib/admin.h"

namespace pmfs::cli {

std::vector<Figure> figures_of(const Volume& v) {
  constexpr auto kTotal = Figure::kTotal, kGauge = Figure::kGauge;
  const proto::WireCounters w = admin::counters(v.session());
  return {
      {"faults", kTotal, "page faults decided", w.faults},
      {"faults_minor", kTotal, "of these: the page was there, its PTE was not", w.faults_minor},
      {"faults_missing", kTotal, "of these: in a range that had no extent mapped", w.faults_missing},
      {"faults_wp", kTotal, "of these: a store to a write-protected page", w.faults_wp},
      {"installs_pages", kTotal, "PTEs installed, by fault-around too", w.installs_pages},
      {"retries", kTotal, "faults that met an invalidate and started over", w.retries},
      {"stale_events", kTotal, "fault events that were out of date when they were read", w.stale_events},
      {"sigbus", kTotal, "touches that got SIGBUS", w.sigbus},
      {"invalidates", kTotal, "truncates, punches and what else takes PTEs away", w.invalidates},
      {"zaps", kTotal, "extents whose PTEs were taken away", w.zaps},
      {"zapped_pages", kTotal, "pages of these", w.zapped_pages},
      {"agent_commands", kTotal, "mapping commands posted to clients", w.agent_commands},
      {"agent_acks", kTotal, "of these answered", w.agent_acks},
      {"requests", kTotal, "requests of clients", w.requests},
      {"protocol_errors", kTotal, "messages that made no sense", w.protocol_errors},
      {"canary_errors", kTotal, "freed blocks that were written to before their reuse", w.canary_errors},
      {"zero_blocks", kGauge, "blocks mapped for readers of holes", w.zero_blocks},
      {"zero_commits", kTotal, "of these that a first write made the file's own", w.zero_commits},
      {"clients", kGauge, "clients connected", w.clients},
      {"client_deaths", kTotal, "clients that went without a word", w.client_deaths},
      {"fault_p50_ns", kGauge, "median of a fault, from the event to the answer, in nanoseconds", w.fault_p50_ns},
      {"fault_p99_ns", kGauge, "99th percentile of a fault, in nanoseconds", w.fault_p99_ns},
      {"fault_p999_ns", kGauge, "99.9th percentile of a fault, in nanoseconds", w.fault_p999_ns},
      {"invalidate_p50_ns", kGauge, "median of an invalidate, in nanoseconds", w.invalidate_p50_ns},
      {"invalidate_p99_ns", kGauge, "99th percentile of an invalidate, in nanoseconds", w.invalidate_p99_ns},
  };
}

uint64_t figure(const std::vector<Figure>& all, std::string_view name) {
  const auto it = std::find_if(all.begin(), all.end(), [&](const Figure& f) { return f.name == name; });
  return it == all.end() ? 0 : it->value;
}

}  // namespace pmfs::cli
