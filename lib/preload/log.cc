#include "lib/preload/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace pmfs::preload {

void warn(const char* format, ...) {
  const int saved = errno;
  const char* level = getenv("PMFS_LOG");
  if (level != nullptr && strcmp(level, "warn") == 0) {
    char line[1024];
    const int head = snprintf(line, sizeof line, "pmfs_preload[%d]: ", static_cast<int>(getpid()));
    va_list args;
    va_start(args, format);
    const int body = vsnprintf(line + head, sizeof line - 1 - static_cast<size_t>(head), format, args);
    va_end(args);
    size_t n = static_cast<size_t>(head + (body > 0 ? body : 0));
    if (n > sizeof line - 2) n = sizeof line - 2;
    line[n++] = '\n';
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line, n);
  }
  errno = saved;
}

}  // namespace pmfs::preload
