# One target a stage.  A run is a folder, outputs/<run>/; a stage reads it and adds one artefact.
# `make -n TARGET` shows the command.  Every command works without make (.venv/bin/xmlgrpo-train
# --help), and each decides for itself what is done already, so its target is phony.

CONFIG ?= configs/tiny.yaml
RUN    ?= $(basename $(notdir $(CONFIG)))
ARGS   ?=
SEED   ?=
GPUS   ?= 1

Q        ?=
MODEL    ?=
LIMIT    ?=
K        ?=
TEMPERATURE ?=
GPU      ?=
QUANTS   ?= q8_0 q4_k_m
REPO     ?=
WHAT     ?=
NAME     ?=
REVISION ?=
FRESH    ?=
RUNS     ?=
ARMS     ?= grpo-0 random-0 rejection
REWARDS  ?=
N        ?= 3
DRY_RUN  ?=
PUBLIC   ?=

PYTHON      ?=
TORCH_INDEX ?=
LOCK ?=
GSM8K_DIR   ?=

# The task of validate and rows, and of a MODEL that lies in no run's folder; a run knows its own.
TASK ?= gsm8k
# where its rows are: DATA, else what the environment names for it, GSM8K_DIR, SQL_DIR, ...
DATA_VARIABLE := $(shell printf %s_DIR '$(subst ','\'',$(TASK))' | tr a-z- A-Z_)
DATA ?= $(if $(filter-out undefined,$(origin $(DATA_VARIABLE))),$($(DATA_VARIABLE)))

SHELL := bash
# -f: no file name expansion, so that ARGS="lora.target_modules=[q_proj,v_proj]" arrives as it is
.SHELLFLAGS := -feuo pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory --warn-undefined-variables
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

BIN   := .venv/bin
READY := .venv/.stamp
GGUF_READY := .venv/.gguf-stamp
FRESH_READY := .venv/.fresh-stamp

# --- what the user gave, checked while make reads this file: before the hours, not after them ----
one_word = $(if $(filter 1,$(words $($(1)))),,$(error $(1) must be one word, without spaces; got '$($(1))'))
$(call one_word,CONFIG)$(call one_word,RUN)
ifneq (,$(filter . ..,$(RUN)))
$(error RUN must name a run, as in RUN=gsm8k-1b, or give its folder; got '$(RUN)')
endif
ifneq (,$(filter push,$(MAKECMDGOALS)))
ifeq (,$(strip $(REPO)))
$(error push: say where to, REPO=owner/name (add DRY_RUN=1 to see what would go))
endif
endif
ifneq (,$(filter compare,$(MAKECMDGOALS)))
ifeq (,$(strip $(RUNS)))
$(error compare: say which runs, RUNS="one other")
endif
endif
ifneq (,$(filter seeds,$(MAKECMDGOALS)))
ifeq (,$(filter $(N),$(shell seq 100)))
$(error seeds: N must be a whole number from 1 to 100; got '$(N)')
endif
endif
ifneq (,$(filter learn,$(MAKECMDGOALS)))
ifeq (,$(strip $(DATA)))
$(error learn: say where GSM8K is, DATA=folder (with train.jsonl and test.jsonl in it))
endif
endif
ifneq (,$(filter validate,$(MAKECMDGOALS)))
ifeq (gsm8k,$(strip $(TASK)$(DATA)$(ARGS)))
$(error validate: say which rows, DATA=folder (with train.jsonl or test.jsonl in it) or DATA=file.jsonl; TASK=name for another task than gsm8k)
endif
endif

ifneq (,$(filter new-task,$(MAKECMDGOALS)))
ifeq (,$(strip $(NAME)))
$(error new-task: say what it is called, as in NAME=weekday)
endif
endif
ifneq (,$(filter rows,$(MAKECMDGOALS)))
ifeq (,$(strip $(DATA)))
$(error rows: say where to, TASK=name DATA=folder; ARGS="--train 2000 --test 500" for how many)
endif
endif

# The question reaches the command through the environment, untouched by make and by the shell:
# quotes, dollar signs, Chinese and line breaks are safe.
override Q := $(value Q)
export Q

# --- from variables to words of a command line -----------------------------------------------------
# A RUN with a slash is the run's folder, wherever that is; otherwise a name under outputs/.
RUN_DIR := $(if $(findstring /,$(RUN)),$(patsubst %/,%,$(RUN)),outputs/$(RUN))

quote = '$(subst ','\'',$(1))'
option = $(if $(strip $(2)),--$(1) $(call quote,$(strip $(2))))
switch = $(if $(filter-out 0 no false,$(2)),--$(1))
run = --run $(call quote,$(RUN_DIR))
# only a TASK that was named: without one a run, and a model in a run's folder, are asked their own
task = $(if $(filter file,$(origin TASK)),,$(call option,task,$(TASK)$(1)))
subject = $(if $(strip $(MODEL)),$(call option,model,$(MODEL)),$(run))

# one seed after the other: each run is whole before the next begins
SEEDS = $(wordlist 1,$(N),$(shell seq 0 99))

# Several GPUs: one process each, started by accelerate's launcher.
gpus = $(call option,gpus,$(filter-out 1,$(GPUS)))

# A stage after training trains first when its run is missing, but only the run that CONFIG names:
# `make gguf RUN=typo` must say that there is no such run, not train one.
TRAINED := $(if $(filter file,$(origin RUN)),$(RUN_DIR)/manifest.json)
needs_run = $(if $(strip $(MODEL)),,$(TRAINED))
needs_fresh = $(if $(call switch,fresh,$(FRESH)),$(FRESH_READY))
# llama.cpp takes minutes to build: not before it is said that there is no such model or run. A slash
# within the MODEL may be the Hub's, a ~ is the command's to expand.
no_such_model = $(shell case $(call quote,$(MODEL)) in ([./]*) ;; (*/*) exit ;; esac; test -e $(call quote,$(MODEL)) || echo yes)
needs_llama_cpp = $(if $(filter %.gguf,$(MODEL)),$(if $(no_such_model),,$(GGUF_READY)))
has_subject = $(if $(strip $(MODEL)),$(if $(no_such_model),,yes),$(TRAINED)$(wildcard $(RUN_DIR)))
needs_converter = $(if $(has_subject),$(GGUF_READY))

##@ Train and try
.PHONY: train seeds ask plan passrate doctor demo-controls
train: | $(READY)  ## train CONFIG into outputs/RUN; run again to continue (CONFIG RUN SEED GPUS ARGS)
	$(BIN)/xmlgrpo-train --config $(call quote,$(CONFIG)) $(run) $(gpus) $(call option,seed,$(SEED)) $(ARGS)
seeds: | $(READY)  ## train CONFIG with seeds 0 to N-1 into outputs/RUN-seed0 and on, and compare them (CONFIG RUN N ARGS)
	for seed in $(SEEDS); do $(BIN)/xmlgrpo-train --config $(call quote,$(CONFIG)) --run $(call quote,$(RUN_DIR))-seed$$seed $(gpus) --seed $$seed data.seed=0 $(ARGS); done
	$(BIN)/xmlgrpo-compare --runs $(foreach seed,$(SEEDS),$(call quote,$(RUN_DIR)-seed$(seed)))
ask: | $(READY) $(needs_run) $(needs_llama_cpp)  ## ask the model one question; without Q as many as you type (Q RUN MODEL TASK)
	$(BIN)/xmlgrpo-ask $(subject) $(if $(strip $(MODEL)),$(call task,)) $(if $(strip $(value Q)),--question-env Q) $(ARGS)
plan: | $(READY)  ## tokens, steps and memory of CONFIG, before any weight is loaded (CONFIG GPU GPUS ARGS)
	$(BIN)/xmlgrpo-plan --config $(call quote,$(CONFIG)) $(call option,gpu,$(GPU)) $(gpus) $(ARGS)
passrate: | $(READY)  ## how often the model solves each training problem of CONFIG: a file for sampling.rates (CONFIG ARGS)
	$(BIN)/python -m xmlgrpo_trainer.passrate --config $(call quote,$(CONFIG)) $(ARGS)
doctor: | $(READY)  ## what this machine has, or how a run fares; what is missing, what to do (RUN)
	$(BIN)/xmlgrpo-doctor $(if $(TRAINED),,$(run)) $(ARGS)
demo-controls: | $(READY)  ## rerun the controls of a tiny run: what else could explain the gain (CONFIG SEED)
	$(BIN)/python -m xmlgrpo_trainer.controls --config $(call quote,$(CONFIG)) $(call option,seed,$(SEED)) $(ARGS)

##@ See
.PHONY: watch report compare rescore
watch: | $(READY)  ## follow a training in another terminal; writes its report again and again (RUN)
	$(BIN)/xmlgrpo-watch $(run) $(ARGS)
report: | $(READY) $(if $(wildcard $(RUN_DIR)),,$(TRAINED))  ## one HTML page about the run, finished or not (RUN)
	$(BIN)/xmlgrpo-report $(run) $(ARGS)
compare: | $(READY)  ## finished runs on the same held-out problems, with intervals (RUNS="a b c")
	$(BIN)/xmlgrpo-compare --runs $(foreach name,$(RUNS),$(call quote,$(name))) $(ARGS)
rescore: | $(READY)  ## what a run would have been paid: REWARDS="correctness_reward_func=1" (RUN REWARDS)
	$(BIN)/xmlgrpo-rescore $(run) $(if $(strip $(REWARDS)),--rewards $(foreach one,$(REWARDS),$(call quote,$(one)))) $(ARGS)

##@ Evaluate
.PHONY: eval ladder validate rows bench
eval: | $(READY) $(needs_run) $(needs_llama_cpp) $(needs_fresh)  ## base and tuned on the same test items (RUN MODEL TASK LIMIT SEED K TEMPERATURE FRESH)
	$(BIN)/xmlgrpo-eval run $(subject) $(call task,_xml) $(call option,limit,$(LIMIT)) $(call option,seed,$(SEED)) $(call option,k,$(K)) $(call option,temperature,$(TEMPERATURE)) $(call switch,fresh,$(FRESH)) $(ARGS)
ladder: | $(READY) $(TRAINED) $(if $(wildcard $(RUN_DIR)/gguf/*.gguf),$(GGUF_READY))  ## base, adapter, merged and every GGUF on the same items (RUN LIMIT SEED K)
	$(BIN)/xmlgrpo-eval ladder $(run) $(call option,limit,$(LIMIT)) $(call option,seed,$(SEED)) $(call option,k,$(K)) $(call option,temperature,$(TEMPERATURE)) $(ARGS)
validate: | $(READY)  ## every gold answer scores full marks, no known hack does; a TASK that makes rows needs no DATA (DATA TASK)
	$(BIN)/xmlgrpo-validate $(call quote,$(TASK)) $(if $(strip $(DATA)),$(call quote,$(DATA))) $(ARGS)
rows: | $(READY)  ## rows that a task makes by itself, train.jsonl and test.jsonl in DATA (TASK DATA SEED ARGS)
	$(BIN)/xmlgrpo-rows $(call quote,$(TASK)) $(call quote,$(DATA)) $(call option,seed,$(SEED)) $(ARGS)
bench: | $(READY)  ## the CPU benchmarks of bench/cpu, all or one: WHAT=rollout ARGS="--prompts 64"
	$(BIN)/nox -s bench -- $(WHAT) $(ARGS)

##@ Export and publish
.PHONY: merge gguf gguf-setup push
merge: | $(READY) $(TRAINED)  ## adapter into the 16-bit base, checked against it (RUN)
	$(BIN)/xmlgrpo-export merge $(run) $(ARGS)
gguf: | $(READY) $(needs_run) $(needs_converter)  ## merge, convert, quantize, check (RUN MODEL QUANTS)
	$(BIN)/xmlgrpo-export gguf $(subject) --quants $(QUANTS) $(ARGS)
gguf-setup: | $(GGUF_READY)  ## build llama.cpp once: about 3 minutes, needs a C++ compiler
	@echo "llama-cpp-python is installed in .venv"
push: | $(READY) $(TRAINED)  ## to the Hugging Face Hub, private unless PUBLIC=1 (RUN REPO WHAT REVISION DRY_RUN PUBLIC)
	$(BIN)/xmlgrpo-export push $(run) $(call option,repo,$(REPO)) $(if $(strip $(WHAT)),--what $(WHAT)) $(call option,revision,$(REVISION)) $(call switch,dry-run,$(DRY_RUN)) $(call switch,public,$(PUBLIC)) $(ARGS)

##@ Develop
.PHONY: setup new-task test lint format lock real-gemma learn pictures clean help
setup: | $(READY)  ## make .venv: one locked pip install (PYTHON TORCH_INDEX LOCK)
	@echo ".venv is ready"
new-task: | $(READY)  ## write the files of a new task, with gaps to fill: NAME=weekday (NAME ARGS)
	$(BIN)/xmlgrpo-new-task $(call quote,$(NAME)) $(ARGS)
test: | $(READY)  ## everything that CI runs; ends with a summary (ARGS go to pytest)
	$(BIN)/nox -- $(ARGS)
lint: | $(READY)  ## formatting, lint, types and import directions
	$(BIN)/nox -s lint types imports
format: | $(READY)  ## write the formatting that lint asks for
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .
lock: | $(READY)  ## resolve ci/requirements/*.in again and write the locks
	$(BIN)/python -m ci.remake.lock $(ARGS)
real-gemma: | $(READY)  ## real weights for the tests marked real, under Gemma's terms: 280 MB (ARGS)
	$(BIN)/python -m ci.real_gemma.fetch $(ARGS)
learn: | $(READY)  ## Gemma 3 270M on GSM8K without the Hub: fetch, warm up, train, test; table and picture (DATA ARMS ARGS)
	$(BIN)/python -m recipes.gsm8k.learn base screen arms test --base s2 --arms $(ARMS) --steps 200 --last --cut --call-s 3600 --gsm8k $(call quote,$(DATA)) --out outputs/gsm8k/learn.json $(ARGS)
pictures: | $(READY)  ## docs/pictures, of a real run and its report: minutes, needs Chromium
	$(BIN)/python -m ci.remake.pictures $(ARGS)
clean:  ## remove .venv and what tools left; never outputs/ nor the built llama.cpp in .cache/
	rm -rf .venv .nox dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
help:  ## this list
	@awk 'BEGIN {FS = ":.*  ## "} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z][a-z-]*:.*  ## / {line = sprintf("  %-14s", $$1); n = split($$2, words, " "); \
	    for (i = 1; i <= n; i++) { \
	      if (length(line) + length(words[i]) >= 79) {print line; line = sprintf("%16s", "")} \
	      line = line " " words[i]} \
	    print line}' $(firstword $(MAKEFILE_LIST))
	@printf '\nCONFIG=%s  RUN=%s\nAny key of the config is overridden with ARGS:\n  make train ARGS="grpo.learning_rate=1e-5 data.limit=200"\n' \
	  $(call quote,$(CONFIG)) $(call quote,$(RUN_DIR))

# --- files -----------------------------------------------------------------------------------------
# A folder that was moved has a .venv that points to where it was; a PYTHON or TORCH_INDEX that was
# named is looked at even when .venv is there.
moved := $(shell was=$$(sed -n 's/^made-in = //p' .venv/pyvenv.cfg 2>/dev/null); \
  [ "$${was:-$$(pwd -P)}" = "$$(pwd -P)" ] || echo yes)
$(READY): $(wildcard ci/requirements/base.txt ci/requirements/newest.txt ci/requirements/dev.txt packages/*/pyproject.toml) \
  $(if $(moved),anew) | $(if $(strip $(PYTHON)$(TORCH_INDEX)$(LOCK)),as-named)
	@PYTHON=$(call quote,$(PYTHON)) TORCH_INDEX=$(call quote,$(TORCH_INDEX)) LOCK=$(call quote,$(LOCK)) ci/setup/setup.sh
	@touch $@
anew:
as-named:
	@PYTHON=$(call quote,$(PYTHON)) TORCH_INDEX=$(call quote,$(TORCH_INDEX)) LOCK=$(call quote,$(LOCK)) ci/setup/setup.sh --check

$(FRESH_READY): ci/requirements/fresh.txt | $(READY)
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps -r $<
	@touch $@

$(GGUF_READY): ci/requirements/gguf.txt | $(READY)
	@ci/setup/gguf_setup.sh
	@touch $@

# The manifest is the last file that training writes.
$(RUN_DIR)/manifest.json: | $(READY)
	$(BIN)/xmlgrpo-train --config $(call quote,$(CONFIG)) $(run) $(gpus) $(call option,seed,$(SEED))
