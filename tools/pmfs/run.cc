#include "tools/pmfs/run.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <vector>

#include <fmt/format.h>

#include "pmfs/error.hpp"

namespace pmfs::cli {
namespace {

namespace fs = std::filesystem;

constexpr char kLibrary[] = "libpmfs_preload.so";

// In the build tree bin/ and lib/ are neighbours; so they are when installed, or the library is in a folder by architecture.
std::string find_library() {
  const fs::path bin = fs::read_symlink("/proc/self/exe").parent_path();
  for (const fs::path& dir : {bin / "../lib", bin / ".." / PMFS_INSTALL_LIBDIR, bin})
    if (std::error_code e; fs::exists(dir / kLibrary, e)) return (dir / kLibrary).lexically_normal();
  throw Error(ENOENT, fmt::format("run: there is no {} beside {}; install it", kLibrary, bin.string()));
}

std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const char* path = std::getenv("PATH");
  std::string_view dirs = path != nullptr ? path : "/usr/bin:/bin";
  while (!dirs.empty()) {
    const size_t n = std::min(dirs.find(':'), dirs.size());
    const std::string candidate = std::string(n == 0 ? "." : dirs.substr(0, n)) + "/" + name;
    struct stat st {};
    if (::access(candidate.c_str(), X_OK) == 0 && ::stat(candidate.c_str(), &st) == 0 && S_ISREG(st.st_mode)) return candidate;
    dirs.remove_prefix(std::min(n + 1, dirs.size()));
  }
  throw Error(ENOENT, fmt::format("run: {}: there is no such program; name its path", name));
}

std::string read_some(int fd, size_t bytes, off_t at) {
  std::string s(bytes, '\0');
  const ssize_t n = ::pread(fd, s.data(), bytes, at);
  s.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return s;
}

// Why the dynamic linker would not load our library into it; empty: it would, as far as can be told.
std::string obstacle(const std::string& program, int depth = 0) {
  const int fd = ::open(program.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};  // it may be executable all the same
  struct stat st {};
  const std::string head = ::fstat(fd, &st) == 0 ? read_some(fd, 4096, 0) : std::string();
  std::string headers;
  Elf64_Ehdr e{};
  if (head.size() >= sizeof e) {
    std::memcpy(&e, head.data(), sizeof e);
    headers = read_some(fd, size_t{e.e_phnum} * sizeof(Elf64_Phdr), static_cast<off_t>(e.e_phoff));
  }
  ::close(fd);
  if (((st.st_mode & S_ISUID) != 0 && st.st_uid != ::geteuid()) || ((st.st_mode & S_ISGID) != 0 && st.st_gid != ::getegid()))
    return fmt::format("{} is set-user-ID or set-group-ID: the system lets nobody load a library into it", program);
  if (::geteuid() != 0 && ::getxattr(program.c_str(), "security.capability", nullptr, 0) > 0)
    return fmt::format("{} has file capabilities: the system lets nobody load a library into it", program);
  if (head.starts_with("#!") && depth < 4) {
    const std::string line = head.substr(2, head.find('\n') - 2);
    const size_t from = line.find_first_not_of(" \t");
    if (from == std::string::npos) return {};
    return obstacle(line.substr(from, line.find_first_of(" \t", from) - from), depth + 1);
  }
  if (!head.starts_with(ELFMAG)) return {};
  if (head[EI_CLASS] != ELFCLASS64) return fmt::format("{} is not a 64-bit program", program);
  for (size_t at = 0; at + sizeof(Elf64_Phdr) <= headers.size(); at += sizeof(Elf64_Phdr)) {
    Elf64_Phdr p;
    std::memcpy(&p, headers.data() + at, sizeof p);
    if (p.p_type == PT_INTERP) return {};
  }
  return fmt::format("{} is statically linked: no library can be loaded into it", program);
}

void run(Context& c, const std::vector<std::string>& command) {
  if (command.empty()) throw UsageError("run: no command is named; write pmfs run -- COMMAND");
  c.error_code = 127;
  const std::string program = find_program(command[0]);
  if (const std::string why = obstacle(program); !why.empty())
    throw Error(ENOEXEC, fmt::format("run: {}; its mappings of files on a mount would be refused", why));
  std::string preload = find_library();
  if (const char* others = std::getenv("LD_PRELOAD"); others != nullptr && *others != '\0') preload = others + (":" + preload);
  ::setenv("LD_PRELOAD", preload.c_str(), 1);
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  const int err = errno;
  c.error_code = err == ENOENT ? 127 : 126;
  throw Error(err, fmt::format("run: {}: {}; name a program that can be run", program, std::strerror(err)));
}

}  // namespace

void add_run(CLI::App& app, Context& c) {
  auto command = std::make_shared<std::vector<std::string>>();
  CLI::App* cmd = app.add_subcommand("run", "Run a program with direct mappings of the files it maps on a mount");
  cmd->footer(
      "Examples:\n"
      "  pmfs run -- sqlite3 /mnt/db\n"
      "  PMFS_LOG=warn pmfs run -- COMMAND         a line on standard error says why a mapping was refused\n"
      "Its exit code is the command's; 127 and 126: it could not be started. Files elsewhere are as without.");
  cmd->add_option("COMMAND", *command, "and its arguments, all behind --")->required();
  cmd->callback([&c, command] {
    c.run = [&c, command] { run(c, *command); };
  });
}

}  // namespace pmfs::cli
