//===- RegexTest.cpp - Tests of regular expressions -----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Tokenizer/Regex.h"
#include "gtest/gtest.h"
#include <chrono>

using namespace quench;
using llvm::StringRef;

namespace {

/// The matches, joined by '|'; or the message of the error.
std::string matches(StringRef pattern, StringRef text) {
  llvm::Expected<Regex> regex = Regex::compile(pattern);
  if (!regex)
    return "error: " + llvm::toString(regex.takeError());
  std::string out;
  for (auto [first, last] : regex->findAll(text)) {
    out += out.empty() ? "" : "|";
    out += text.slice(first, last);
  }
  return out;
}

TEST(Regex, Matches) {
  EXPECT_EQ(matches("a|ab", "ab"), "a"); // the first alternative wins
  EXPECT_EQ(matches("ab|a", "aba"), "ab|a");
  EXPECT_EQ(matches("a+?b", "aaab"), "aaab");
  EXPECT_EQ(matches("a+?", "aaa"), "a|a|a");
  EXPECT_EQ(matches("a++a", "aaaa"), "");
  EXPECT_EQ(matches("(?>a|ab)c", "abc"), "");
  EXPECT_EQ(matches("(?:ab)++c", "ababc"), "ababc");
  EXPECT_EQ(matches("\\p{N}{1,3}", "1234567"), "123|456|7");
  EXPECT_EQ(matches("x{2}", "xxxxx"), "xx|xx");
  EXPECT_EQ(matches("x{,2}y", "xxxy"), "xxy");
  EXPECT_EQ(matches("a{x}", "a{x}"), "a{x}"); // no quantifier
  EXPECT_EQ(matches("\\s+(?!\\S)|\\s+", "a   b  "), "  | |  ");
  EXPECT_EQ(matches("a(?=b)", "aab"), "a");
  EXPECT_EQ(matches("[^\\s\\p{L}]+", "ab1! cd?"), "1!|?");
  EXPECT_EQ(matches("[]a-]+", "x]a-y"), "]a-");
  EXPECT_EQ(matches("[\\x41-\\x{43}\\u0061]+", "zABCaD"), "ABCa");
  EXPECT_EQ(matches("^b|c$", "b\nb c\nc"), "b|b|c|c");
  EXPECT_EQ(matches("\\bfoo\\b", "foo food foo"), "foo|foo");
  EXPECT_EQ(matches(".+", "ab\ncd"), "ab|cd");
  EXPECT_EQ(matches("日.", "x日本"), "日本");
}

TEST(Regex, IgnoresCase) {
  EXPECT_EQ(matches("(?i:'s|'ll)", "'S 'lL 'x"), "'S|'lL");
  EXPECT_EQ(matches("(?i:s)", "sS\u017F"), "s|S|\u017F"); // long s
  EXPECT_EQ(matches("(?i)k", "kK\u212A"), "k|K|\u212A");  // Kelvin
  EXPECT_EQ(matches("(?i:[a-c]+)x", "aBcx"), "aBcx");
  EXPECT_EQ(matches("a(?i:b)c", "aBc aBC"), "aBc");
  EXPECT_EQ(matches("x(?i)a|B", "xA Xb xb"), "xA|xb");
}

TEST(Regex, EmptyMatches) {
  llvm::Expected<Regex> regex = Regex::compile("a*");
  ASSERT_TRUE(bool(regex));
  std::vector<ByteRange> expected = {{0, 0}, {1, 3}, {4, 4}};
  EXPECT_EQ(regex->findAll("baab"), expected);
  EXPECT_EQ(Regex::literal("a.").findAll("aba.").size(), 1u);
}

TEST(Regex, Errors) {
  for (auto [pattern, part] :
       {std::pair{"(", "without ')'"}, std::pair{")", "unmatched"},
        std::pair{"[a", "without ']'"}, std::pair{"*a", "nothing before"},
        std::pair{"(?<!a)", "not supported"}, std::pair{"\\1", "not supported"},
        std::pair{"[a&&b]", "within classes"}, std::pair{"\\p{Greek}", "Greek"},
        std::pair{"\\pL", "without {name}"}, std::pair{"a{2,1}", "maximum"},
        std::pair{"a{5000}", "above 1000"}, std::pair{"\\", "at the end"},
        std::pair{"[z-a]", "range"}, std::pair{"\\xZZ", "not supported"},
        std::pair{"((a{900}b){900}c){900}", "steps"},
        std::pair{"((){1000}){1000}", "steps"},
        std::pair{"a**********", "in a row"}})
    EXPECT_NE(matches(pattern, "").find(part), std::string::npos)
        << pattern << " gives " << matches(pattern, "");
  EXPECT_NE(matches(std::string(1000, '('), "").find("nested"),
            std::string::npos);
}

TEST(Regex, HostilePatternsEnd) {
  std::string text(3000, 'a');
  auto start = std::chrono::steady_clock::now();
  for (const char *pattern :
       {"^(a+)+$b", "(?:a|a)*b", "(?:a*)*b", "(?:(?=a)a*)*b", "(?:a?){50}b"})
    EXPECT_EQ(matches(pattern, StringRef(text).take_front(300)), "") << pattern;
  std::chrono::duration<double> seconds =
      std::chrono::steady_clock::now() - start;
  EXPECT_LT(seconds.count(), 20);
}

} // namespace
