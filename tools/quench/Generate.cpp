//===- Generate.cpp - quench generate ---------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Driver.h"
#include "LanguageModel.h"
#include "quench/Tokenizer/ChatTemplate.h"
#include "quench/Tokenizer/Sampler.h"
#include "quench/Tokenizer/Texts.h"
#include "quench/Tokenizer/Tokenizer.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace quench;

static cl::SubCommand options("generate",
                              "Continue a text with a language model");

static cl::opt<std::string> modelPath(cl::Positional, cl::desc("OUT"),
                                      cl::sub(options));
static NumbersOption<int64_t>
    tokens("tokens", cl::CommaSeparated, cl::value_desc("1,2,3"),
           cl::sub(options),
           cl::desc("The prompt as token ids; ids are "
                    "printed, unless --tokenizer is "
                    "given"));
static cl::opt<std::string> prompt("prompt", cl::value_desc("TEXT"),
                                   cl::sub(options),
                                   cl::desc("The prompt as a text"));
static cl::opt<std::string> promptFile("prompt-file", cl::value_desc("FILE"),
                                       cl::sub(options),
                                       cl::desc("A file with the prompt's "
                                                "text; - reads standard "
                                                "input"));
static cl::opt<std::string>
    tokenizerPath("tokenizer", cl::value_desc("FILE"), cl::sub(options),
                  cl::desc("A Hugging Face tokenizer.json; by default the one "
                           "next to the model"));
static cl::opt<std::string>
    chat("chat", cl::value_desc("TEMPLATE"), cl::sub(options),
         cl::desc("Write the prompt as a chat message of this template (they "
                  "are listed below)"));
static cl::opt<std::string> systemText("system", cl::value_desc("TEXT"),
                                       cl::sub(options),
                                       cl::desc("The system message of a "
                                                "chat"));
static NumberOption<int64_t>
    tokenLimit("n", cl::init(128), cl::value_desc("N"), cl::sub(options),
               cl::desc("The most tokens to make (default "
                        "128)"));
static NumberOption<double> temperature(
    "temperature", cl::init(0), cl::value_desc("T"), cl::sub(options),
    cl::desc("Divide logits by T and draw tokens; 0, the default, takes the "
             "most likely one"));
static NumberOption<double>
    topP("top-p", cl::init(1), cl::value_desc("P"), cl::sub(options),
         cl::desc("Draw from the most likely tokens that "
                  "reach the probability P together"));
static NumberOption<int64_t>
    topK("top-k", cl::init(0), cl::value_desc("K"), cl::sub(options),
         cl::desc("Draw from the K most likely tokens; 0 "
                  "for all"));
static NumberOption<uint64_t>
    seed("seed", cl::init(0), cl::value_desc("S"), cl::sub(options),
         cl::desc("Seed of the random numbers: the same "
                  "seed gives the same text"));
static NumbersOption<int64_t> stopTokens("stop-tokens", cl::CommaSeparated,
                                         cl::value_desc("1,2"),
                                         cl::sub(options),
                                         cl::desc("More token ids that end the "
                                                  "text"));
static cl::opt<bool> ignoreStop("ignore-stop", cl::sub(options),
                                cl::desc("Go on behind tokens that end a "
                                         "text"));
static cl::opt<bool> echo("echo", cl::sub(options),
                          cl::desc("Print the prompt before the text"));
static NumberOption<int> threads("threads", cl::init(0), cl::value_desc("N"),
                                 cl::sub(options),
                                 cl::desc("Threads; by default one per "
                                          "processor"));
static NumberOption<int64_t>
    capacity("capacity", cl::init(0), cl::value_desc("N"), cl::sub(options),
             cl::desc("Positions that the cache holds, prompt included; by "
                      "default what prompt and -n need"));

namespace {

/// Prints what is made: text, or ids if there is no tokenizer.
class Printer {
public:
  Printer(const Tokenizer *tokenizer, ArrayRef<StringRef> stops)
      : stops(stops) {
    if (tokenizer)
      decoder.emplace(*tokenizer);
  }
  /// True once a stop text was found.
  Expected<bool> push(int64_t id) {
    if (decoder) {
      outs() << stops.push(decoder->push(id));
    } else {
      outs() << (first ? "" : ",") << id;
      first = false;
    }
    if (Error error = flushOutput())
      return std::move(error);
    return stops.stopped();
  }
  Error finish() {
    if (decoder) {
      if (!stops.stopped()) {
        outs() << stops.push(decoder->finish());
        outs() << stops.finish();
      }
    }
    outs() << '\n';
    return flushOutput();
  }

private:
  std::optional<StreamDecoder> decoder;
  StopStrings stops;
  bool first = true;
};

struct Prompt {
  std::vector<int64_t> ids;
  std::optional<Tokenizer> tokenizer;
  std::vector<int32_t> stopIds;
  std::vector<StringRef> stopTexts;
};

} // namespace

static Expected<Prompt> readPrompt() {
  Prompt result;
  bool isText = tokens.empty();
  if (isText || !tokenizerPath.empty()) {
    Expected<Tokenizer> tokenizer =
        openTokenizer(tokenizerPath, modelPath, "a prompt of text");
    if (!tokenizer)
      return tokenizer.takeError();
    result.tokenizer = std::move(*tokenizer);
    Expected<std::vector<int32_t>> stops = stopIds(*result.tokenizer, chat);
    if (!stops)
      return stops.takeError();
    result.stopIds = std::move(*stops);
  }
  if (!isText) {
    result.ids.assign(tokens.begin(), tokens.end());
    return result;
  }
  std::string text = prompt;
  if (!promptFile.empty()) {
    Expected<std::string> contents = readText(promptFile);
    if (!contents)
      return contents.takeError();
    text = std::move(*contents);
  }
  std::vector<int32_t> ids;
  if (chat.empty()) {
    ids = result.tokenizer->encode(text);
  } else {
    Expected<const ChatTemplate *> found = findChatTemplate(chat);
    if (!found)
      return found.takeError();
    result.stopTexts = (*found)->stops;
    std::vector<ChatMessage> messages;
    if (!systemText.empty())
      messages.push_back({"system", systemText});
    messages.push_back({"user", text});
    Expected<std::vector<int32_t>> encoded =
        encodeChat(*result.tokenizer, chat, messages);
    if (!encoded)
      return encoded.takeError();
    ids = std::move(*encoded);
  }
  result.ids.assign(ids.begin(), ids.end());
  if (result.ids.empty())
    return createStringError("the prompt has no tokens");
  return result;
}

static void printSpeed(const char *what, size_t count, double seconds) {
  errs() << formatted("%-8s%6zu tokens  %8.3f s  %9.1f tokens/s\n", what, count,
                      seconds, seconds > 0 ? count / seconds : 0);
}

static Error generate() {
  Expected<Prompt> prompt = readPrompt();
  if (!prompt)
    return prompt.takeError();
  int64_t needed =
      prompt->ids.size() + std::clamp<int64_t>(tokenLimit, 1, int64_t(1) << 32);
  Expected<std::unique_ptr<LanguageModel>> opened =
      LanguageModel::openCompiled(modelPath, threads, capacity, needed);
  if (!opened)
    return opened.takeError();
  LanguageModel &model = **opened;
  int64_t room = model.capacity();
  if (room && static_cast<int64_t>(prompt->ids.size()) > room)
    return createStringError(
        "the prompt has " + Twine(prompt->ids.size()) +
        " tokens; this model holds " + Twine(room) + " positions" +
        (capacity ? " with --capacity " + Twine(capacity)
                  : Twine(" (compile it with a larger --max-positions)")));
  if (prompt->tokenizer && model.vocabulary() &&
      prompt->tokenizer->idLimit() > model.vocabulary())
    errs() << "warning: the tokenizer has ids up to "
           << prompt->tokenizer->idLimit() - 1 << ", the model up to "
           << model.vocabulary() - 1 << "; it may be another model's\n";

  SamplerOptions sampling;
  sampling.temperature = temperature;
  sampling.topP = topP;
  sampling.topK = topK;
  sampling.seed = seed;
  Expected<Sampler> sampler = Sampler::create(sampling);
  if (!sampler)
    return sampler.takeError();

  Printer printer(prompt->tokenizer ? &*prompt->tokenizer : nullptr,
                  ignoreStop ? ArrayRef<StringRef>()
                             : ArrayRef<StringRef>(prompt->stopTexts));
  if (echo)
    for (int64_t id : prompt->ids)
      if (Expected<bool> stopped = printer.push(id); !stopped)
        return stopped.takeError();

  std::vector<float> logits;
  Stopwatch prefill;
  if (Error error = model.append(prompt->ids, logits))
    return error;
  double prefillSeconds = prefill.seconds();
  Stopwatch decode;
  size_t steps = 0;
  int64_t length = prompt->ids.size();
  bool isFull = false;
  for (int64_t i = 0; i < tokenLimit; ++i) {
    Expected<int32_t> id = sampler->next(logits);
    if (!id)
      return id.takeError();
    if (!ignoreStop &&
        (is_contained(prompt->stopIds, *id) || is_contained(stopTokens, *id)))
      break;
    Expected<bool> stopped = printer.push(*id);
    if (!stopped)
      return stopped.takeError();
    if (*stopped || i + 1 == tokenLimit)
      break;
    if (room && length == room) {
      isFull = true;
      break;
    }
    int64_t next = *id;
    if (Error error = model.append(next, logits))
      return error;
    ++length;
    ++steps;
  }
  double decodeSeconds = decode.seconds();
  if (Error error = printer.finish())
    return error;
  if (isFull)
    errs() << "stopped: all " << room << " positions are used\n";
  printSpeed("prefill", prompt->ids.size(), prefillSeconds);
  if (steps)
    printSpeed("decode", steps, decodeSeconds);
  return Error::success();
}

static int run() {
  if (modelPath.empty())
    return wrongUsage(generateCommand, "the compiled model's file is missing");
  int prompts = (tokens.getNumOccurrences() > 0) +
                (prompt.getNumOccurrences() > 0) +
                (promptFile.getNumOccurrences() > 0);
  if (prompts != 1)
    return wrongUsage(generateCommand,
                      prompts ? "one of --prompt, --prompt-file and --tokens "
                                "is accepted, not several"
                              : "a prompt is missing: --prompt TEXT, "
                                "--prompt-file FILE or --tokens 1,2,3");
  if (!chat.empty() && !tokens.empty())
    return wrongUsage(generateCommand,
                      "--chat needs a prompt of text, not --tokens");
  if (!systemText.empty() && chat.empty())
    return wrongUsage(generateCommand, "--system needs --chat TEMPLATE");
  if (tokenLimit < 0 || capacity < 0 || threads < 0)
    return wrongUsage(generateCommand,
                      "-n, --capacity and --threads are not negative");
  if (Error error = generate())
    return fail(std::move(error));
  return Done;
}

static std::string notes() {

  std::string text = "\nChat templates:\n\n";
  for (const ChatTemplate &entry : chatTemplates()) {
    text += "  " + entry.name.str();
    text.append(entry.name.size() < 12 ? 12 - entry.name.size() : 1, ' ');
    text += entry.help.str() + "\n";
  }
  text += "\nThe text goes to standard output as it comes; how many tokens a "
          "second were read\n(prefill) and made (decode) to standard error. A "
          "model without caches works too: it\nis run again on the whole text "
          "for each token.\n\nExamples:\n\n"
          "  quench generate model.so --prompt \"Once upon a time\"\n"
          "  quench generate model.so --chat smollm2 --prompt \"Name three "
          "rivers.\" -n 64\n"
          "  quench generate model.so --tokens 1,403,407 -n 20 --temperature "
          "0.8 --top-p 0.9 --seed 7\n";
  return text;
}

const Command quench::generateCommand = {
    options,
    "OUT (--prompt TEXT | --prompt-file FILE | --tokens 1,2,3) "
    "[OPTION...]",
    notes, run};
