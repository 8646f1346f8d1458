// Readiness for a supervisor: sd_notify's protocol.
#pragma once

namespace pmfs::cli {

// Sends one datagram to the socket in $NOTIFY_SOCKET; nothing if there is none. A supervisor that can't be reached is
// logged: it will give up by itself. Source: sd_notify(3).
void tell_systemd(const char* state);

}  // namespace pmfs::cli
