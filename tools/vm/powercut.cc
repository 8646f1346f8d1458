// pmfs-powercut: the two ends of a power-cut test; tools/vm/powercut cuts the power in between.
//
//   pmfs-powercut work VOLUME --seed S --acks ACKS      works in /SEED-WORKER, one process per worker, until it is killed
//   pmfs-powercut check VOLUME --seed S --acked N,N,N   is there what was acknowledged? and nothing that was not begun?
//
// ACKS: "port:0x402": one byte to the I/O port 0x402 + worker for each operation that returned: what qemu's debug console takes it
// has written to the host's file before the next instruction. Or a path: the same to PATH.WORKER.
#include <fcntl.h>
#include <sys/io.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <map>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "pmfs/pmfs.hpp"
#include "tools/vm/plan.h"

namespace {

using namespace pmfs::powercut;

constexpr unsigned kWorkers = 3;
constexpr uint64_t kMapped = 16 * 4096;  // of each file

std::string directory_of(uint64_t seed, unsigned worker) { return fmt::format("/{}-{}", seed, worker); }

std::function<void()> acknowledger(const std::string& acks, unsigned worker) {
  if (acks.rfind("port:", 0) == 0) {
    const auto port = static_cast<unsigned short>(std::stoul(acks.substr(5), nullptr, 0) + worker);
    if (ioperm(port, 1, 1) != 0) throw std::runtime_error(fmt::format("I/O port {:#x}: {}", port, std::strerror(errno)));
    return [port] { outb('.', port); };
  }
  const int fd = open(fmt::format("{}.{}", acks, worker).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) throw std::runtime_error(acks + ": " + std::strerror(errno));
  return [fd] {
    if (write(fd, ".", 1) != 1) _exit(4);
  };
}

// Executes a plan. Mappings stay, so that operations meet them.
class Worker {
 public:
  Worker(const std::string& volume, std::string directory) : volume_(volume), directory_(std::move(directory)) {
    volume_.mkdir(directory_);
  }
  void execute(const Op& op) {
    const std::string path = directory_ + "/" + op.path;
    switch (op.kind) {
      case Kind::kCreate: volume_.open(path, O_RDWR | O_CREAT | O_EXCL); break;
      case Kind::kMkdir: volume_.mkdir(path); break;
      case Kind::kRmdir: volume_.rmdir(path); break;
      case Kind::kUnlink:
        volume_.unlink(path);
        mapped_.erase(op.path);
        break;
      case Kind::kRename: {
        volume_.rename(path, directory_ + "/" + op.other);
        mapped_.erase(op.other);
        if (auto m = mapped_.extract(op.path)) {
          m.key() = op.other;
          mapped_.insert(std::move(m));
        }
      } break;
      case Kind::kTruncate: file(op).file.truncate(op.length); break;
      case Kind::kPunch: file(op).file.punch(op.offset, op.length); break;
      case Kind::kWrite: file(op).file.write(bytes(op), op.offset); break;
      case Kind::kAppend: file(op).file.append(bytes(op)); break;
      case Kind::kStorePersist:
      case Kind::kStoreFsync: {
        Open& o = file(op);
        std::byte* at = o.mapping.data() + op.offset;
        const std::vector<std::byte> data = bytes(op);
        std::memcpy(at, data.data(), data.size());
        if (op.kind == Kind::kStorePersist)
          pmfs::persist(at, data.size());
        else
          o.file.fsync();
      } break;
    }
  }

 private:
  struct Open {
    pmfs::File file;
    pmfs::Mapping mapping;
  };
  static std::vector<std::byte> bytes(const Op& op) {
    std::vector<std::byte> out(op.length);
    for (uint64_t i = 0; i < op.length; ++i) out[i] = byte_of(op.stamp, i);
    return out;
  }
  Open& file(const Op& op) {
    Open& o = mapped_[op.path];
    if (!o.file) {
      o.file = volume_.open(directory_ + "/" + op.path, O_RDWR);
      o.mapping = o.file.map(0, kMapped);
    }
    return o;
  }

  pmfs::Volume volume_;
  const std::string directory_;
  std::map<std::string, Open> mapped_;
};

int work(const std::string& volume, uint64_t seed, const std::string& acks) {
  for (unsigned w = 0; w < kWorkers; ++w) {
    const pid_t pid = fork();
    if (pid < 0) throw std::runtime_error("fork");
    if (pid > 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    try {
      const auto acknowledge = acknowledger(acks, w);
      Worker worker(volume, directory_of(seed, w));
      acknowledge();  // of the directory
      for (Plan plan(seed, w);;) {
        const Op op = plan.next();
        try {
          worker.execute(op);
        } catch (const std::exception& e) {
          fmt::print(stderr, "worker {}: {}: {}\n", w, to_string(op), e.what());
          _exit(3);
        }
        acknowledge();
      }
    } catch (const std::exception& e) {
      fmt::print(stderr, "worker {}: {}\n", w, e.what());
      _exit(3);
    }
  }
  int status = 0;
  wait(&status);  // none ends by itself
  fmt::print(stderr, "a worker ended, wait status {:#x}\n", status);
  return 3;
}

void read_tree(pmfs::Volume& v, const std::string& directory, const std::string& prefix, State* out) {
  for (const pmfs::Dirent& e : v.list(directory)) {
    const std::string path = directory + "/" + e.name, name = prefix + e.name;
    if (S_ISDIR(e.mode)) {
      out->directories.insert(name);
      read_tree(v, path, name + "/", out);
      continue;
    }
    pmfs::File f = v.open(path, O_RDONLY);
    std::vector<std::byte>& data = out->files[name];
    data.resize(f.stat().size);
    if (f.read(data, 0) != data.size()) throw std::runtime_error(path + ": a short read");
  }
}

// What is wrong if this worker's first operations so many were acknowledged (the first of all is its directory).
std::optional<std::string> judge_worker(const std::optional<State>& found, uint64_t seed, unsigned worker, uint64_t acked, Op* in_flight) {
  if (acked == 0) {  // perhaps the directory, empty
    if (!found || *found == State{}) return std::nullopt;
    return "there is something that nobody has begun";
  }
  if (!found) return "the directory is missing";
  Plan plan(seed, worker);
  for (uint64_t k = 1; k < acked; ++k) plan.next();
  const State before = plan.state();
  *in_flight = plan.next();
  return judge(*found, before, plan.state(), *in_flight);
}

int check(const std::string& volume, uint64_t seed, const std::vector<uint64_t>& acked, bool control) {
  if (acked.size() != kWorkers) throw std::runtime_error(fmt::format("--acked: {} numbers are wanted", kWorkers));
  pmfs::Volume v(volume);
  int bad = 0;
  for (unsigned w = 0; w < kWorkers; ++w) {
    const std::string directory = directory_of(seed, w);
    std::optional<State> found;
    for (const pmfs::Dirent& e : v.list("/"))
      if ("/" + e.name == directory) read_tree(v, directory, "", &found.emplace());
    Op op;
    const auto wrong = judge_worker(found, seed, w, acked[w], &op);
    if (wrong) {
      ++bad;
      fmt::print("LOST worker {}, {} acknowledged: {}\n", w, acked[w], *wrong);
      continue;
    }
    fmt::print("worker {}: {} acknowledged, all there; cut in {}\n", w, acked[w], acked[w] == 0 ? "mkdir" : to_string(op));
    if (!control) continue;
    // One more acknowledged that was not done: two behind, as the next one may have been. (A pair that undoes itself
    // shows nothing: then the next.)
    bool caught = false;
    for (uint64_t more = 2; more < 8 && !caught; ++more) caught = judge_worker(found, seed, w, acked[w] + more, &op).has_value();
    if (!caught) {
      ++bad;
      fmt::print("CONTROL worker {}: operations that were not done were not missed\n", w);
    }
  }
  return bad == 0 ? 0 : 1;
}

void remove_tree(pmfs::Volume& v, const std::string& directory) {
  for (const pmfs::Dirent& e : v.list(directory)) {
    const std::string path = (directory == "/" ? "" : directory) + "/" + e.name;
    if (S_ISDIR(e.mode)) {
      remove_tree(v, path);
      v.rmdir(path);
    } else {
      v.unlink(path);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Works on a volume, and says after a power cut whether what it was told is done is there.");
  app.require_subcommand(1);
  std::string volume, acks;
  uint64_t seed = 0;
  std::vector<uint64_t> acked;
  bool control = false, remove = false;
  CLI::App* working = app.add_subcommand("work", "until it is killed");
  CLI::App* checking = app.add_subcommand("check", "0: all is there; 1: not");
  for (CLI::App* a : {working, checking}) {
    a->add_option("VOLUME", volume, "a served volume")->required();
    a->add_option("--seed", seed, "of what is done")->required();
  }
  working->add_option("--acks", acks, "port:N or a path")->required();
  checking->add_option("--acked", acked, "how many bytes there were of each worker")->delimiter(',')->required();
  checking->add_flag("--control", control, "also claim an operation that was not done: that must be found out");
  checking->add_flag("--remove", remove, "then remove all files");
  CLI11_PARSE(app, argc, argv);
  try {
    if (working->parsed()) return work(volume, seed, acks);
    const int status = check(volume, seed, acked, control);
    if (remove && status == 0) {
      pmfs::Volume v(volume);
      remove_tree(v, "/");
    }
    return status;
  } catch (const std::exception& e) {
    fmt::print(stderr, "pmfs-powercut: {}\n", e.what());
    return 2;
  }
}
