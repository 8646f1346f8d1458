// A client process for the integration tests: real separate process, real libpmfs, driven by one-line commands on
// stdin, one reply line each on stdout.
//
//   test_client [--uid N] [IN OUT]...      IN OUT: inherited pipe fds for children made by `fork`, numbered from 0
//
// Numbers are decimal (0x.. too); VALUE is a byte. Replies: `ok`, a value, or
//   err ERRNO MESSAGE     the operation failed         sigbus / sigsegv    touching memory raised that signal
//
//   connect VOL [ro]                     disconnect (files and mappings go on)
//   protect MAP OFF LEN ro|rw            pmfs_mprotect; rawprotect: mprotect(2)
//   open NAME PATH FLAGS(rwcxta)         r w: access; c: O_CREAT, x: O_EXCL, t: O_TRUNC, a: O_APPEND
//   close NAME                           handle NAME -> handle number
//   cut MAPNAME OFF LEN                   unmaps that piece of it
//   map NAME MAPNAME OFF LEN [ro]        unmap MAPNAME                addr MAPNAME -> 0x...
//   load MAP OFF -> byte                 store MAP OFF VALUE          xchg MAP OFF VALUE -> old byte
//   fill MAP OFF LEN VALUE               check MAP OFF LEN VALUE -> ok | bad OFF BYTE (the first that differs)
//   touch MAP OFF LEN STRIDE -> sum of the bytes read
//   persist MAP OFF LEN
//   write NAME OFF LEN VALUE -> count    append NAME LEN VALUE -> offset
//   read NAME OFF LEN -> COUNT HASH uniform BYTE | COUNT HASH mixed
//   truncate NAME SIZE [nowait]          punch|zero|collapse|insert NAME OFF LEN [nowait]      prealloc NAME OFF LEN [keep]
//   clone NAME OFF TO-NAME OFF [LEN]     shares blocks
//   fsync NAME                           stat NAME | statp PATH -> SIZE BLOCKS MODE(octal) INO NLINK
//   extents NAME -> PGOFF:PFN:COUNT[u] ...
//   unlink|mkdir|rmdir PATH              rename FROM TO               ls PATH -> names
//   syswrite MAP OFF LEN FILE -> count   write(2) from mapped memory to a plain file
//   sysread MAP OFF LEN FILE [direct] -> count      read(2) into mapped memory
//   pin MAP OFF                          vmsplice(2) of a page into a pipe: the kernel keeps the page itself, not what it holds
//   pinned -> byte                       the first one of that page, read from the pipe
//   xwrite NAME OFF MAP MOFF LEN -> count           File::write from mapped memory; xread: File::read into it
//   async ID COMMAND...                  runs COMMAND in a thread (load_async ID.. = async ID load .., store_async)
//   wait ID -> its reply                 poll ID -> done | pending
//   fork N -> pid                        the child serves the Nth pair of fds
//   pid -> pid                           exit [CODE]                  crash (SIGKILL to itself)
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>

#include "pmfs/pmfs.h"
#include "pmfs/pmfs.hpp"

namespace {

using Words = std::vector<std::string>;

// volatile: to the compiler nothing between two stores to it would look at it.
thread_local sigjmp_buf* volatile t_jump = nullptr;  // where a signal of this thread's guarded access goes

void on_signal(int sig) {
  if (t_jump != nullptr) siglongjmp(*t_jump, sig);
  signal(sig, SIG_DFL);
  raise(sig);
}

// Runs f, which only touches memory (nothing it constructs is destroyed on a signal). "" or the signal's name.
template <class F>
std::string guarded(F&& f) {
  sigjmp_buf jump;
  sigjmp_buf* const outer = t_jump;
  const int sig = sigsetjmp(jump, 1);
  if (sig != 0) {
    t_jump = outer;
    return sig == SIGBUS ? "sigbus" : "sigsegv";
  }
  t_jump = &jump;
  f();
  t_jump = outer;
  return "";
}

uint64_t number(const Words& w, size_t i) {
  if (i >= w.size()) throw std::invalid_argument("argument " + std::to_string(i) + " is missing");
  size_t used = 0;
  const uint64_t v = std::stoull(w[i], &used, 0);
  if (used != w[i].size()) throw std::invalid_argument("not a number: " + w[i]);
  return v;
}
std::byte byte_of(const Words& w, size_t i) { return static_cast<std::byte>(number(w, i)); }
const std::string& word(const Words& w, size_t i) {
  if (i >= w.size()) throw std::invalid_argument("argument " + std::to_string(i) + " is missing");
  return w[i];
}
bool has(const Words& w, size_t i, const char* what) { return i < w.size() && w[i] == what; }

struct Async {
  std::thread thread;
  std::atomic<bool> done{false};
  std::string reply;
};

class Client {
 public:
  explicit Client(std::vector<std::pair<int, int>> pairs) : pairs_(std::move(pairs)) {}
  void serve();

 private:
  std::string run(const Words& w);
  std::string run_checked(const Words& w);
  std::string memory(const Words& w);
  std::string pin(const Words& w);
  std::string system_io(const Words& w);
  std::string file_io(const Words& w);
  std::string paths(const Words& w);
  std::string async(const Words& w);
  std::string fork_child(const Words& w);

  template <class T>
  std::shared_ptr<T> find(std::map<std::string, std::shared_ptr<T>>& in, const std::string& name) {
    std::lock_guard l(mutex_);
    const auto it = in.find(name);
    if (it == in.end()) throw std::invalid_argument("no such name: " + name);
    return it->second;
  }
  std::shared_ptr<pmfs::File> file(const Words& w) { return find(files_, word(w, 1)); }
  // [OFF, OFF+n) of a mapping; refuses what is outside.
  volatile std::byte* at(const Words& w, size_t i, uint64_t n, std::shared_ptr<pmfs::Mapping>* keep);

  std::mutex mutex_;  // names, not the objects
  std::optional<pmfs::Volume> volume_;
  std::map<std::string, std::shared_ptr<pmfs::File>> files_;
  std::map<std::string, std::shared_ptr<pmfs::Mapping>> maps_;
  std::map<std::string, std::unique_ptr<Async>> asyncs_;
  std::vector<std::pair<int, int>> pairs_;
  int in_ = 0, out_ = 1;
  int pipe_[2] = {-1, -1};
  std::string pending_;  // input not yet handled
};

volatile std::byte* Client::at(const Words& w, size_t i, uint64_t n, std::shared_ptr<pmfs::Mapping>* keep) {
  *keep = find(maps_, word(w, i));
  const uint64_t off = number(w, i + 1);
  if (off > (*keep)->size() || n > (*keep)->size() - off) throw std::invalid_argument("outside the mapping");
  return (*keep)->data() + off;
}

std::string Client::memory(const Words& w) {
  const std::string& op = w[0];
  std::shared_ptr<pmfs::Mapping> keep;
  const bool single = op == "load" || op == "store" || op == "xchg";
  const uint64_t n = single ? 1 : number(w, 3);
  volatile std::byte* p = at(w, 1, n, &keep);
  std::byte value{};
  if (op == "load") {
    std::string s = guarded([&] { value = *p; });
    return s.empty() ? std::to_string(static_cast<int>(value)) : s;
  }
  std::string signal_name;
  if (op == "store") {
    value = byte_of(w, 3);
    signal_name = guarded([&] { *p = value; });
  } else if (op == "xchg") {
    value = byte_of(w, 3);
    auto* word8 = const_cast<unsigned char*>(reinterpret_cast<volatile unsigned char*>(p));
    unsigned char old = 0;
    const auto fresh = static_cast<unsigned char>(value);
    signal_name = guarded([&] { old = __atomic_exchange_n(word8, fresh, __ATOMIC_SEQ_CST); });
    if (signal_name.empty()) return std::to_string(old);
  } else if (op == "fill") {
    value = byte_of(w, 4);
    signal_name = guarded([&] { std::memset(const_cast<std::byte*>(p), static_cast<int>(value), n); });
  } else if (op == "persist") {
    pmfs::persist(const_cast<std::byte*>(p), n);
  } else if (op == "touch") {
    const uint64_t stride = number(w, 4);
    volatile uint64_t sum = 0;
    if (stride == 0) throw std::invalid_argument("a stride of 0");
    signal_name = guarded([&] {
      for (uint64_t i = 0; i < n; i += stride) sum = sum + static_cast<uint64_t>(p[i]);
    });
    if (signal_name.empty()) return std::to_string(sum);
  } else {  // check
    value = byte_of(w, 4);
    volatile uint64_t bad = n;
    volatile int seen = 0;
    signal_name = guarded([&] {
      for (uint64_t i = 0; i < n && bad == n; ++i) {
        const std::byte b = p[i];
        if (b == value) continue;
        bad = i;
        seen = static_cast<int>(b);
      }
    });
    if (signal_name.empty() && bad != n) {
      return "bad " + std::to_string(number(w, 2) + bad) + " " + std::to_string(seen);
    }
  }
  return signal_name.empty() ? "ok" : signal_name;
}

std::string Client::pin(const Words& w) {
  std::shared_ptr<pmfs::Mapping> keep;
  if (w[0] == "pinned") {
    char page[4096];
    if (read(pipe_[0], page, sizeof page) != sizeof page) return "err " + std::to_string(errno) + " the pipe";
    return std::to_string(static_cast<int>(static_cast<unsigned char>(page[0])));
  }
  iovec v{const_cast<std::byte*>(at(w, 1, 4096, &keep)), 4096};
  if (pipe2(pipe_, O_CLOEXEC) != 0 || vmsplice(pipe_[1], &v, 1, 0) != 4096) return "err " + std::to_string(errno) + " vmsplice";
  return "ok";
}

std::string Client::system_io(const Words& w) {
  const uint64_t n = number(w, 3);
  std::shared_ptr<pmfs::Mapping> keep;
  void* p = const_cast<std::byte*>(at(w, 1, n, &keep));
  const bool writing = w[0] == "syswrite";
  const int flags = writing ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY | (has(w, 5, "direct") ? O_DIRECT : 0);
  const int fd = open(word(w, 4).c_str(), flags | O_CLOEXEC, 0644);
  const ssize_t r = fd < 0 ? -1 : writing ? write(fd, p, n) : read(fd, p, n);
  const int err = errno;
  if (fd >= 0) close(fd);
  if (r < 0) return "err " + std::to_string(err) + " " + std::strerror(err);
  return std::to_string(r);
}

std::string stat_text(const pmfs::Stat& s) {
  std::ostringstream o;
  o << s.size << ' ' << s.blocks << ' ' << std::oct << s.mode << std::dec << ' ' << s.ino << ' ' << s.nlink;
  return o.str();
}

std::string Client::file_io(const Words& w) {
  const std::string& op = w[0];
  const auto f = file(w);
  if (op == "truncate") return f->truncate(number(w, 2), has(w, 3, "nowait")), "ok";
  if (op == "punch") return f->punch(number(w, 2), number(w, 3), has(w, 4, "nowait")), "ok";
  if (op == "clone") return f->clone_to(number(w, 2), *find(files_, word(w, 3)), number(w, 4), w.size() > 5 ? number(w, 5) : 0), "ok";
  if (op == "collapse") return f->collapse(number(w, 2), number(w, 3), has(w, 4, "nowait")), "ok";
  if (op == "insert") return f->insert(number(w, 2), number(w, 3), has(w, 4, "nowait")), "ok";
  if (op == "zero") return f->zero_range(number(w, 2), number(w, 3), has(w, 4, "nowait")), "ok";
  if (op == "prealloc") return f->preallocate(number(w, 2), number(w, 3), has(w, 4, "keep")), "ok";
  if (op == "fsync") return f->fsync(), "ok";
  if (op == "handle") return std::to_string(f->handle());
  if (op == "stat") return stat_text(f->stat());
  if (op == "write") {
    const std::vector<std::byte> data(number(w, 3), byte_of(w, 4));
    return std::to_string(f->write(data, number(w, 2)));
  }
  if (op == "append") {
    const std::vector<std::byte> data(number(w, 2), byte_of(w, 3));
    return std::to_string(f->append(data));
  }
  if (op == "read") {
    std::vector<std::byte> data(number(w, 3));
    data.resize(f->read(data, number(w, 2)));
    uint64_t hash = 14695981039346656037u;  // FNV-1a
    bool uniform = !data.empty();
    for (std::byte b : data) {
      hash = (hash ^ static_cast<uint64_t>(b)) * 1099511628211u;
      uniform = uniform && b == data[0];
    }
    std::ostringstream o;
    o << data.size() << ' ' << std::hex << hash << std::dec;
    if (uniform) {
      o << " uniform " << static_cast<int>(data[0]);
    } else {
      o << " mixed";
    }
    return o.str();
  }
  if (op == "xwrite" || op == "xread") {
    std::shared_ptr<pmfs::Mapping> keep;
    const uint64_t n = number(w, 5);
    const std::span<std::byte> s(const_cast<std::byte*>(at(w, 3, n, &keep)), n);
    return std::to_string(op == "xwrite" ? f->write(s, number(w, 2)) : f->read(s, number(w, 2)));
  }
  if (op == "extents") {
    std::string s;
    for (const auto& e : f->extents()) {
      s += (s.empty() ? "" : " ") + std::to_string(e.pgoff) + ":" + std::to_string(e.pfn) + ":" +
           std::to_string(e.count) + (e.unwritten ? "u" : "");
    }
    return s.empty() ? "none" : s;
  }
  // map NAME MAPNAME OFF LEN [ro]
  const int prot = has(w, 5, "ro") ? PROT_READ : PROT_READ | PROT_WRITE;
  auto m = std::make_shared<pmfs::Mapping>(f->map(number(w, 3), number(w, 4), prot));
  std::lock_guard l(mutex_);
  maps_[word(w, 2)] = std::move(m);
  return "ok";
}

std::string Client::paths(const Words& w) {
  if (!volume_) throw std::invalid_argument("not connected");
  const std::string& op = w[0];
  if (op == "open") {
    int flags = 0;
    const std::string& f = word(w, 3);
    const bool r = f.find('r') != f.npos, wr = f.find('w') != f.npos;
    flags = r && wr ? O_RDWR : wr ? O_WRONLY : O_RDONLY;
    if (f.find('c') != f.npos) flags |= O_CREAT;
    if (f.find('x') != f.npos) flags |= O_EXCL;
    if (f.find('t') != f.npos) flags |= O_TRUNC;
    if (f.find('a') != f.npos) flags |= O_APPEND;
    auto file = std::make_shared<pmfs::File>(volume_->open(word(w, 2), flags));
    std::lock_guard l(mutex_);
    files_[w[1]] = std::move(file);
  } else if (op == "unlink") {
    volume_->unlink(word(w, 1));
  } else if (op == "mkdir") {
    volume_->mkdir(word(w, 1));
  } else if (op == "rmdir") {
    volume_->rmdir(word(w, 1));
  } else if (op == "rename") {
    volume_->rename(word(w, 1), word(w, 2));
  } else if (op == "statp") {
    return stat_text(volume_->stat(word(w, 1)));
  } else if (op == "ls") {
    std::string s;
    for (const auto& d : volume_->list(word(w, 1))) s += (s.empty() ? "" : " ") + d.name;
    return s.empty() ? "none" : s;
  }
  return "ok";
}

std::string Client::async(const Words& w) {
  if (w[0] == "async") {
    Words rest(w.begin() + 2, w.end());
    if (rest.empty()) throw std::invalid_argument("async without a command");
    auto a = std::make_unique<Async>();
    Async* p = a.get();
    p->thread = std::thread([this, p, rest] {
      p->reply = run(rest);
      p->done.store(true);
    });
    if (!asyncs_.emplace(w[1], std::move(a)).second) std::abort();  // a test that uses an id twice
    return "ok";
  }
  const auto it = asyncs_.find(word(w, 1));
  if (it == asyncs_.end()) throw std::invalid_argument("no such id: " + w[1]);
  if (w[0] == "poll") return it->second->done.load() ? "done" : "pending";
  it->second->thread.join();
  const std::string reply = it->second->reply;
  asyncs_.erase(it);
  return reply;
}

std::string Client::fork_child(const Words& w) {
  const auto pair = pairs_.at(number(w, 1));
  const pid_t pid = fork();
  if (pid < 0) return "err " + std::to_string(errno) + " fork";
  if (pid != 0) {
    close(pair.first);
    close(pair.second);
    return std::to_string(pid);
  }
  close(in_);
  close(out_);
  in_ = pair.first;
  out_ = pair.second;
  pending_.clear();
  for (auto& [id, a] : asyncs_) static_cast<void>(a.release());  // threads of the parent
  asyncs_.clear();
  return "";  // the child owes no reply
}

std::string Client::run_checked(const Words& w) {
  static const std::map<std::string, std::string (Client::*)(const Words&)> kOps = [] {
    std::map<std::string, std::string (Client::*)(const Words&)> m;
    for (const char* n : {"load", "store", "xchg", "fill", "check", "touch", "persist"}) m[n] = &Client::memory;
    for (const char* n : {"syswrite", "sysread"}) m[n] = &Client::system_io;
    for (const char* n : {"pin", "pinned"}) m[n] = &Client::pin;
    for (const char* n : {"truncate", "punch", "zero", "clone", "collapse", "insert", "prealloc", "fsync", "handle", "stat", "write", "append", "read",
                          "xwrite", "xread", "extents", "map"}) {
      m[n] = &Client::file_io;
    }
    for (const char* n : {"open", "unlink", "mkdir", "rmdir", "rename", "statp", "ls"}) m[n] = &Client::paths;
    for (const char* n : {"async", "poll", "wait"}) m[n] = &Client::async;
    m["fork"] = &Client::fork_child;
    return m;
  }();
  if (const auto it = kOps.find(w[0]); it != kOps.end()) return (this->*it->second)(w);
  if (w[0] == "load_async" || w[0] == "store_async") {
    Words a{"async", word(w, 1), w[0].substr(0, w[0].find('_'))};
    a.insert(a.end(), w.begin() + 2, w.end());
    return async(a);
  }
  if (w[0] == "connect") {
    volume_.emplace(word(w, 1), has(w, 2, "ro") ? pmfs::Access::kReadOnly : pmfs::Access::kReadWrite);
  } else if (w[0] == "disconnect") {
    volume_.reset();
  } else if (w[0] == "close") {
    const auto f = file(w);
    {
      std::lock_guard l(mutex_);
      files_.erase(w[1]);
    }
    f->close();
  } else if (w[0] == "unmap") {
    const auto m = find(maps_, word(w, 1));
    {
      std::lock_guard l(mutex_);
      maps_.erase(w[1]);
    }
    m->unmap();
  } else if (w[0] == "cut") {
    const auto m = find(maps_, word(w, 1));
    if (pmfs_munmap(m->data() + number(w, 2), number(w, 3)) != 0) throw pmfs::Error(errno, pmfs_strerror());
  } else if (w[0] == "protect" || w[0] == "rawprotect") {
    std::byte* p = find(maps_, word(w, 1))->data() + number(w, 2);
    const int prot = has(w, 4, "ro") ? PROT_READ : PROT_READ | PROT_WRITE;
    if (w[0] == "protect" && pmfs_mprotect(p, number(w, 3), prot) != 0) throw pmfs::Error(errno, pmfs_strerror());
    if (w[0] == "rawprotect" && mprotect(p, number(w, 3), prot) != 0) throw pmfs::Error(errno, "mprotect");
  } else if (w[0] == "addr") {
    std::ostringstream o;
    o << static_cast<void*>(find(maps_, word(w, 1))->data());
    return o.str();
  } else if (w[0] == "pid") {
    return std::to_string(getpid());
  } else if (w[0] == "crash") {
    kill(getpid(), SIGKILL);
  } else if (w[0] == "exit") {
    _exit(w.size() > 1 ? static_cast<int>(number(w, 1)) : 0);
  } else {
    throw std::invalid_argument("no such command: " + w[0]);
  }
  return "ok";
}

std::string Client::run(const Words& w) {
  try {
    return run_checked(w);
  } catch (const pmfs::Error& e) {
    return "err " + std::to_string(e.err()) + " " + e.message();
  } catch (const std::exception& e) {
    return std::string("err ") + std::to_string(EINVAL) + " test_client: " + e.what();
  }
}

void Client::serve() {
  for (;;) {
    size_t end;
    while ((end = pending_.find('\n')) == std::string::npos) {
      char buffer[4096];
      const ssize_t n = read(in_, buffer, sizeof buffer);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return;  // the test is gone
      pending_.append(buffer, static_cast<size_t>(n));
    }
    std::istringstream line(pending_.substr(0, end));
    pending_.erase(0, end + 1);
    Words w;
    for (std::string s; line >> s;) w.push_back(s);
    if (w.empty()) continue;
    std::string reply = run(w);
    if (reply.empty()) continue;
    for (char& c : reply) {
      if (c == '\n') c = ' ';
    }
    reply += '\n';
    for (size_t at = 0; at < reply.size();) {
      const ssize_t n = write(out_, reply.data() + at, reply.size() - at);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return;
      at += static_cast<size_t>(n);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  int i = 1;
  if (argc > 2 && std::string(argv[1]) == "--uid") {
    const auto id = static_cast<uid_t>(std::atoi(argv[2]));
    if (setresgid(id, id, id) != 0 || setresuid(id, id, id) != 0) return 2;
    i = 3;
  }
  std::vector<std::pair<int, int>> pairs;
  for (; i + 1 < argc; i += 2) {
    pairs.emplace_back(std::atoi(argv[i]), std::atoi(argv[i + 1]));
    fcntl(pairs.back().first, F_SETFD, FD_CLOEXEC);
    fcntl(pairs.back().second, F_SETFD, FD_CLOEXEC);
  }
  struct sigaction sa {};
  sa.sa_handler = on_signal;
  sa.sa_flags = SA_NODEFER;
  sigaction(SIGBUS, &sa, nullptr);
  sigaction(SIGSEGV, &sa, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGCHLD, SIG_IGN);  // forked children are reaped by the kernel
  auto* client = new Client(std::move(pairs));
  client->serve();
  _exit(0);  // as a process that dies: threads may hang in faults
}
