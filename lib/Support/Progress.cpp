//===- Progress.cpp - Shows how far long work is --------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Support/Progress.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/Process.h"

using namespace llvm;
using namespace quench;

/// How often the bar is drawn anew, and how often a line is written where there
/// is no terminal.
static constexpr double kBarSeconds = 0.1, kLineSeconds = 5;

static unsigned errorColumns() {
  if (!sys::Process::StandardErrIsDisplayed())
    return 0;
  // A terminal that does not tell is taken to have 80 columns.
  unsigned columns = sys::Process::StandardErrColumns();
  return columns ? columns : 80;
}

Progress::Progress(raw_ostream &stream, unsigned columns)
    : stream(stream), columns(columns) {}

Progress::Progress() : Progress(errs(), errorColumns()) {}

double Progress::secondsSince(Clock::time_point start) const {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

static void appendTime(raw_ostream &out, double seconds) {
  if (seconds < 90)
    out << format("%.0f s", seconds);
  else
    out << format("%.0f min", seconds / 60);
}

void Progress::drawBar(StringRef name, int64_t done, int64_t total) {
  std::string text;
  raw_string_ostream out(text);
  out << step << ' ';
  if (total > 0) {
    constexpr int width = 24;
    int filled = static_cast<int>(width * done / total);
    out << '[';
    for (int i = 0; i < width; ++i)
      out << (i < filled ? '=' : i == filled ? '>' : ' ');
    out << ']' << format("%4lld%%", static_cast<long long>(100 * done / total));
    // The first parts say little about the rest.
    double seconds = secondsSince(stepStart);
    if (seconds > 1 && 20 * done > total && done < total) {
      out << "  ";
      appendTime(out, seconds * (total - done) / done);
      out << " left";
    }
    out << "  ";
  }
  out << name;
  // One column stays free: a full line would move on by itself. Cutting a
  // character of several bytes in two would write a broken one.
  size_t room = columns > 1 ? columns - 1 : 0;
  if (text.size() > room) {
    while (room && (static_cast<unsigned char>(text[room]) & 0xC0) == 0x80)
      --room;
    text.resize(room);
  }
  stream << '\r' << text << "\x1b[K";
  stream.flush();
  barDrawn = true;
}

void Progress::writeLine(int64_t done, int64_t total) {
  stream << step;
  if (total > 0)
    stream << ": " << done << " of " << total
           << format(" (%lld%%)", static_cast<long long>(100 * done / total));
  else if (done > 0)
    stream << ": " << done;
  if (double seconds = secondsSince(stepStart); seconds >= 1) {
    stream << ", ";
    appendTime(stream, seconds);
  }
  stream << '\n';
  stream.flush();
}

void Progress::update(StringRef newStep, StringRef name, int64_t done,
                      int64_t total) {
  std::lock_guard<std::mutex> guard(lock);
  // A step may be reported by many workers; the bar must not go back.
  total = std::max<int64_t>(total, 0);
  done = std::max<int64_t>(done, 0);
  if (total)
    done = std::min(done, total);
  bool first = newStep != step;
  if (first) {
    // A line for a step that took long enough to be asked about.
    if (!columns && shown && lastTotal && lastDone < lastTotal)
      writeLine(lastTotal, lastTotal);
    step = newStep.str();
    stepStart = lastShown = Clock::now();
    shown = false;
    lastDone = 0;
  }
  lastDone = std::max(lastDone, done);
  lastTotal = total;
  double since = secondsSince(lastShown);
  bool isEnd = total && done == total;
  if (columns) {
    if (first || isEnd || since >= kBarSeconds) {
      drawBar(name, lastDone, total);
      lastShown = Clock::now();
    }
    return;
  }
  if (since >= kLineSeconds || (isEnd && shown)) {
    writeLine(lastDone, total);
    lastShown = Clock::now();
    shown = !isEnd;
  }
}

void Progress::finish() {
  std::lock_guard<std::mutex> guard(lock);
  if (!barDrawn)
    return;
  stream << "\r\x1b[K";
  stream.flush();
  barDrawn = false;
}
