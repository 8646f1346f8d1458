#include "tools/torture/options.h"

#include <unistd.h>

#include <algorithm>
#include <random>
#include <sstream>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/torture/control_block.h"

namespace torture {

namespace {

std::string default_mix(const Options& o) {
  std::string text;
  for (unsigned i = 0; i < kMixOps; ++i) text += fmt::format("{}{}={}", i != 0 ? "," : "", kMixNames[i], o.mix[i]);
  return text;
}

// "punch=100,fork=0": the others keep their weight.
void parse_mix(const std::string& text, Options* o) {
  std::istringstream in(text);
  for (std::string item; std::getline(in, item, ',');) {
    size_t eq = item.find('=');
    auto name = std::find(std::begin(kMixNames), std::end(kMixNames), item.substr(0, eq));
    if (name == std::end(kMixNames) || eq == std::string::npos)
      throw CLI::ValidationError("--mix", item + ": write op=weight with op one of " + default_mix(*o));
    try {
      o->mix[static_cast<size_t>(name - std::begin(kMixNames))] = static_cast<uint32_t>(std::stoul(item.substr(eq + 1)));
    } catch (const std::exception&) {
      throw CLI::ValidationError("--mix", item + ": the weight is not a number");
    }
  }
  if (std::all_of(o->mix.begin(), o->mix.end(), [](uint32_t w) { return w == 0; }))
    throw CLI::ValidationError("--mix", "every weight is 0");
}

}  // namespace

int parse_options(int argc, char** argv, Options* o) {
  CLI::App app(
      "Tortures a volume: many processes share mappings of the same files and load, store, fork, stop and die, while\n"
      "others truncate, grow, punch, rename over and unlink them. Three oracles watch: what loads see, what PTEs the\n"
      "clients really have, and a pattern in freed blocks. By default on a volume and a manager of its own.");
  app.footer(
      "Examples:\n"
      "  pmfs-torture --seconds 60                        the default scheme, 8 clients, 4 files\n"
      "  pmfs-torture --exclusion isize-only              a scheme that is broken on purpose: caught\n"
      "  pmfs-torture --clients 16 --mix punch=2000,fork=50 --kills 5 --seed 7\n"
      "  pmfs-torture --kill manager,client --seconds 60  the manager too is killed and started again, all the time\n"
      "  pmfs-torture --target /mnt/ext4 --seconds 30     the content oracle on another file system\n\n"
      "Exit code: 0 clean, 1 a violation, 2 usage, 3 could not run.");
  std::string mix;
  std::vector<std::string> kill;
  bool seeded = false;
  app.add_option("--volume", o->volume, "a served volume (its manager should run with --canary --trace)");
  app.add_option("--target", o->target, "a directory of any file system: content oracle only, no pmfs")
      ->excludes("--volume")->check(CLI::ExistingDirectory);
  app.add_option("--dir", o->directory, "where our own volume is made: it decides what memory that is (tmpfs, or ext4 or xfs with DAX)")
      ->excludes("--volume")->excludes("--target")->check(CLI::ExistingDirectory)->capture_default_str();
  app.add_option("--data", o->device, "devdax device for our own volume's data; what is on it is lost")
      ->excludes("--volume")->excludes("--target")->check(CLI::ExistingFile);
  app.add_option("--exclusion", o->exclusion, "scheme for our own manager")->capture_default_str();
  app.add_option_function<uint64_t>("--seed", [&](const uint64_t& s) { o->seed = s; seeded = true; },
                                    "what the processes do (the scheduling stays the kernel's)");
  app.add_option("--seconds", o->seconds, "how long")->check(CLI::Range(0.1, 1e6))->capture_default_str();
  app.add_option("--clients", o->clients, "processes")->check(CLI::Range(1u, kMaxClients))->capture_default_str();
  app.add_option("--files", o->files, "files")->check(CLI::Range(1u, kMaxFiles))->capture_default_str();
  app.add_option("--file-size", o->file_bytes, "bytes (K, M); 256 MiB at most")
      ->transform(CLI::AsSizeValue(false))->check(CLI::Range(16 * kPage, kMaxFilePages * kPage))->capture_default_str();
  app.add_option("--volume-size", o->volume_bytes, "bytes of our own volume (M, G)")
      ->transform(CLI::AsSizeValue(false))->check(CLI::Range(uint64_t{32} << 20, uint64_t{1} << 40))->capture_default_str();
  app.add_option("--unit", o->unit, "of our own volume: 4K or 2M (pmfs mkfs --unit)")->excludes("--volume")->excludes("--target");
  app.add_option("--mix", mix, "weights: " + default_mix(*o));
  app.add_option("--kill", kill, "whom to kill with SIGKILL: client (the default), manager, or both; our own manager only")
      ->delimiter(',')->check(CLI::IsMember({"client", "manager"}))->excludes("--volume")->excludes("--target");
  app.add_option("--manager-kills", o->manager_kills, "with --kill manager: how often a second")
      ->check(CLI::Range(0.0, 100.0))->capture_default_str();
  app.add_option("--kills", o->kills, "clients killed with SIGKILL a second")->check(CLI::Range(0.0, 1000.0))->capture_default_str();
  app.add_option("--stops", o->stops, "clients stopped for a while a second")->check(CLI::Range(0.0, 1000.0))->capture_default_str();
  app.add_option("--pagers", o->pagers, "fault threads of our own manager")->check(CLI::Range(1u, 64u))->capture_default_str();
  app.add_option("--workers", o->workers, "request threads of our own manager")->check(CLI::Range(1u, 256u))->capture_default_str();
  app.add_option("--jitter", o->jitter, "the manager's threads pause, one in N, where a race might hide; 0: as pmfs serve does")->capture_default_str();
  app.add_flag("--force-acked", o->force_acked, "our own manager in acked mode: it has to ask clients to let go of blocks");
  app.add_flag("--json", o->json, "print one JSON object at the end");
  app.add_flag("--quiet", o->quiet, "no progress line");
  app.add_flag("--keep-going", o->keep_going, "don't stop at the first violation");
  try {
    app.parse(argc, argv);
    if (!mix.empty()) parse_mix(mix, o);
    if (!kill.empty()) {
      o->kill_clients = std::find(kill.begin(), kill.end(), "client") != kill.end();
      o->kill_manager = std::find(kill.begin(), kill.end(), "manager") != kill.end();
    }
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  if (!seeded) o->seed = std::random_device{}();
  return -1;
}

}  // namespace torture
