// What all commands of `pmfs` share: arguments, output, errors. Included by the manager's commands and by the clients'
// alike, so it names no class of either.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

namespace pmfs::cli {

// One run of the program: what the command line asked for.
struct Context {
  bool json = false;
  int exit_code = 0;   // of a run that ended without an error
  int error_code = 1;  // of one that threw
  std::function<void()> run;  // set by the command that was named; throws
};

// The command line can't be carried out as written: exit code 2.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// VOLUME_DIR:/path/in/volume, split at the first ":/".
struct Target {
  std::string volume, path;
  std::string text() const { return volume + ":" + path; }
  std::string name() const;         // the last component; "" for the root
  Target parent() const;            // of the root: the root
  Target child(std::string_view name) const;
};
bool is_target(std::string_view text);
Target parse_target(const std::string& text);  // throws UsageError

// 4096, 64K, 10M, 1G, 2T (powers of 1024; "KiB" and "KB" are taken for "K"). Throws UsageError naming `option`.
uint64_t parse_size(const std::string& text, std::string_view option);
std::string human_size(uint64_t bytes);

// A command with its --json flag and examples; `run` is called after the whole line was parsed.
CLI::App* add_command(CLI::App& app, Context& c, const std::string& name, const std::string& description,
                      const std::string& examples, std::function<void()> run);

// One JSON document on standard output. Bytes of names that are not UTF-8 are replaced.
void print_json(const nlohmann::ordered_json& j);
// A name with its control characters escaped, for people's eyes.
std::string printable(std::string_view name);

std::string mode_text(uint32_t mode);  // "-rw-r--r--"
std::string time_text(int64_t ns);     // local time, to the second

// Commands, by file.
void add_mkfs(CLI::App& app, Context& c);    // mkfs.cc
bool grow_offline(const std::string& dir, uint64_t bytes);  // mkfs.cc. False: somebody has the volume in use
void add_grow(CLI::App& app, Context& c);    // grow.cc
void add_fsck(CLI::App& app, Context& c);    // fsck.cc
void add_serve(CLI::App& app, Context& c);   // serve.cc
void add_mount(CLI::App& app, Context& c);   // mount.cc: mount umount
void add_files(CLI::App& app, Context& c);   // files.cc: ls stat truncate punch rm mkdir rmdir mv
void add_names(CLI::App& app, Context& c);   // names.cc: ln clone readlink chmod chown and extended attributes
void add_quota(CLI::App& app, Context& c);   // quota.cc: quota project
void add_copy(CLI::App& app, Context& c);    // copy.cc: cp
void add_info(CLI::App& app, Context& c);    // info.cc: df clients counters shutdown
void add_watch(CLI::App& app, Context& c);   // watch.cc: top metrics
void add_reference(CLI::App& app, Context& c);  // reference.cc, after all others: reference

}  // namespace pmfs::cli
