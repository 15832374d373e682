"""Fine-tuning (platform.openai.com/docs/api-reference/fine-tuning): jobs with events and checkpoints, permissions,
graders.

A job goes on by one step each time that somebody looks at it: validating_files, queued, running, succeeded. Its model
then is one of the models, and can be deleted. A paused job stays as it is until it is resumed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors, files, rest
from host.fakes.openai.call import ApiCall, EndpointTable
from host.fakes.openai.models import FINE_TUNED
from host.fakes.openai.store import Stored
from host.fakes.openai.text import count, identifier, seed_of

_JOBS = "/v1/fine_tuning/jobs"
_JOB = f"{_JOBS}/{{fine_tuning_job_id}}"
_EVENTS = f"{_JOB}/events"
_CHECKPOINTS = f"{_JOB}/checkpoints"
_PERMISSIONS = "/v1/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions"
_USUAL = {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.0}
_STEPS_OF_A_JOB = 10


def create_job(call: ApiCall) -> FakeResponse:
    params = rest.body(call)
    source = files.file(call, params.required_text("training_file"))
    if source.fields["purpose"] != "fine-tune":
        raise errors.wrong_value("training_file", "the file's purpose has to be 'fine-tune'.")
    asked = {name: value for name, value in params.mapping("hyperparameters").items() if value != "auto"}
    given = {**params.all(), "hyperparameters": {**_USUAL, **asked}, "seed": params.integer("seed", 42, low=0)}
    shown = {"organization_id": "org-fake", "result_files": [], "status": "validating_files"}
    job = rest.make(call, _JOBS, given, object="fine_tuning.job", **shown)
    job.content = source.content
    call.path["fine_tuning_job_id"] = job.id
    _log(call, f"Created fine-tuning job: {job.id}")
    _log(call, f"Validating training file: {source.id}")
    job.steps = _steps(call, job)
    return rest.answer(call, job.fields)


def _steps(call: ApiCall, job: Stored) -> list[Callable[[], object]]:
    return [lambda: _enqueue(call, job), lambda: _run(call, job), lambda: _succeed(call, job)]


def _log(call: ApiCall, message: str, level: str = "info") -> None:
    shown = {"object": "fine_tuning.job.event", "level": level, "message": message, "type": "message"}
    rest.make(call, _EVENTS, shown)


def _enqueue(call: ApiCall, job: Stored) -> None:
    """A training file that is no JSONL fails the job."""
    try:
        rows = [json.loads(line) for line in job.content.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        rows = []
    if not rows:
        job.steps.clear()
        wrong = {"code": "invalid_training_file", "message": "The file is not JSONL.", "param": "training_file"}
        job.become(status="failed", error=wrong, finished_at=call.store.now)
        _log(call, wrong["message"], "error")
        return
    job.become(status="queued")
    _log(call, "Files validated, moving job to queued state")


def _run(call: ApiCall, job: Stored) -> None:
    job.become(status="running")
    _log(call, "Fine-tuning job started")


def _succeed(call: ApiCall, job: Stored) -> None:
    name = f"ft:{job.fields['model']}:org-fake:{job.fields.get('suffix') or ''}:{job.id[-8:]}"
    for number in (1, 2):
        step = number * _STEPS_OF_A_JOB // 2
        metrics = {"step": step, "train_loss": 1 / step, "train_mean_token_accuracy": 0.9}
        shown = {"fine_tuned_model_checkpoint": f"{name}:ckpt-step-{step}", "step_number": step, "metrics": metrics}
        rest.make(call, _CHECKPOINTS, shown, object="fine_tuning.job.checkpoint")
    results = files.store_file(call, "step_metrics.csv", b"step,train_loss\n5,0.2\n10,0.1\n", "fine-tune-results")
    trained = count(job.content.decode("utf-8", "replace")) * _USUAL["n_epochs"]
    done: dict[str, Any] = {"fine_tuned_model": name, "result_files": [results.id], "trained_tokens": int(trained)}
    job.become(status="succeeded", finished_at=call.store.now, **done)
    model = {"id": name, "object": "model", "created": call.store.now, "owned_by": "org-fake"}
    call.store.put(FINE_TUNED, Stored(model))
    _log(call, f"New fine-tuned model created: {name}")
    _log(call, "The job has successfully completed")


def _change(call: ApiCall, verb: str) -> Stored:
    job = rest.found(call, _JOB)
    rest.check_not_ended(job, verb)
    return job


def cancel_job(call: ApiCall) -> FakeResponse:
    job = _change(call, "cancel")
    job.steps.clear()
    job.become(status="cancelled", finished_at=call.store.now)
    _log(call, "Fine-tuning job cancelled")
    return rest.answer(call, job.fields)


def pause_job(call: ApiCall) -> FakeResponse:
    """The model of a job knows no status for it: it stays queued."""
    job = _change(call, "pause")
    job.steps.clear()
    job.become(status="queued")
    _log(call, "Fine-tuning job paused")
    return rest.answer(call, job.fields)


def resume_job(call: ApiCall) -> FakeResponse:
    job = _change(call, "resume")
    if not job.steps:
        job.steps = _steps(call, job)[1:]
    _log(call, "Fine-tuning job resumed")
    return rest.answer(call, job.fields)


# permissions of checkpoints, which an admin key gives to projects


def create_permissions(call: ApiCall) -> FakeResponse:
    projects = rest.body(call).texts("project_ids", at_most=100)
    given = [rest.make(call, _PERMISSIONS, {"project_id": name}, object="checkpoint.permission") for name in projects]
    return FakeResponse.json(
        {"object": "list", "data": [rest.shown(call, one.fields) for one in given], "has_more": False}
    )


# graders


def run_grader(call: ApiCall) -> FakeResponse:
    """The reward is a function of the sample."""
    params = rest.body(call)
    grader = params.mapping("grader")
    reward = seed_of(params.text("model_sample", ""), grader)[0] / 255
    spent = {"name": str(grader.get("name", "")), "type": str(grader.get("type", "")), "execution_time": 0.001}
    own = {"metadata": spent, "reward": reward, "sub_rewards": {}, "model_grader_token_usage_per_model": {}}
    return rest.answer(call, {**own, "id": identifier("grade_", seed_of(reward))})


ENDPOINTS: EndpointTable = {
    _JOBS: {"POST": create_job},
    f"{_JOB}/cancel": {"POST": cancel_job},
    f"{_JOB}/pause": {"POST": pause_job},
    f"{_JOB}/resume": {"POST": resume_job},
    _PERMISSIONS: {"POST": create_permissions},
    "/v1/fine_tuning/alpha/graders/run": {"POST": run_grader},
}
