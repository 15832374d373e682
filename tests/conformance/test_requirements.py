"""What must hold, and the tests that show it. Each requirement names the tests that an attacker of it has to break.

A requirement without a test, and a test that is no longer there, fail here. A new promise is a new entry.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from typing import Final

import pytest

from tests.conftest import ROOT

PROMISES: Final = "tests/e2e/test_promises.py"
HOSTILE: Final = "tests/sandbox/test_hostile.py"
REQUIREMENTS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "1. A secret is nowhere but in the bound request": {
        PROMISES: (
            "test_a_guest_that_prints_its_secret_prints_a_placeholder_and_the_upstream_gets_the_secret",
            "test_an_upstream_that_echoes_the_secret_shows_it_to_nobody",
            "test_control_a_revealed_secret_is_seen_where_these_tests_look",
            "test_the_errors_of_a_run_hold_no_secret",
        ),
        "tests/capabilities/test_upstream.py": ("test_what_crosses_the_seam_holds_placeholders_and_no_secret",),
        "tests/runtime/test_run.py": ("test_no_record_holds_a_secret",),
        "tests/capabilities/test_searched_answers.py": (
            "test_what_leaves_the_run_is_searched_whatever_origin_it_came_from",
            "test_a_guest_whose_own_server_streams_guesses_of_a_secret_learns_nothing_from_the_cuts",
        ),
        "tests/capabilities/test_websocket.py": (
            "test_a_message_that_echoes_the_secret_shows_the_placeholder",
            "test_an_echoed_subprotocol_shows_the_placeholder",
        ),
        "tests/runtime/test_connections.py": ("test_no_message_for_the_caller_shows_a_secret",),
    },
    "2. A placeholder becomes the value once, where the grant says": {
        PROMISES: (
            "test_a_request_to_another_domain_keeps_the_placeholder",
            "test_the_placeholder_of_one_run_is_worthless_in_another",
            "test_after_a_redirect_nothing_is_sent_on",
        ),
        "tests/capabilities/test_exchange.py": (
            "test_a_secret_goes_into_no_other_place_than_its_own",
            "test_a_secret_does_not_travel_over_plain_http",
            "test_a_placeholder_that_a_guest_made_up_stays_as_it_is",
        ),
        "tests/capabilities/test_secret_headers.py": (
            "test_a_guest_that_puts_a_secret_into_a_header_that_is_echoed_gets_its_placeholder_back",
            "test_a_guest_that_asks_for_a_slice_or_a_charset_of_the_answer_sends_its_secret_without_that",
            "test_a_guest_that_overrides_the_method_does_not_go_around_the_policy",
        ),
        "tests/capabilities/test_searched_answers.py": (
            "test_a_guest_that_gets_beginnings_of_a_secret_echoed_reads_the_same_pieces_as_of_another",
        ),
        "tests/capabilities/test_websocket.py": (
            "test_in_messages_it_is_replaced_only_where_the_grant_says_body",
            "test_a_secret_by_subprotocol_to_another_domain_stays_a_placeholder",
            "test_a_secret_is_not_moved_along_in_the_subprotocols",
            "test_over_ws_no_secret_is_sent",
        ),
    },
    "3. One parsed URL decides and connects, to checked addresses": {
        "tests/policy/test_urls.py": (
            "test_a_url_that_could_be_read_in_two_ways_is_refused",
            "test_any_text_is_a_target_or_a_url_error_and_a_target_is_safe_to_send",
        ),
        "tests/policy/test_addresses.py": (
            "test_an_address_is_public_or_has_a_reason_not_to_be",
            "test_no_ipv6_address_that_carries_an_ipv4_one_is_public",
        ),
        "tests/policy/test_domains.py": (
            "test_what_a_pattern_covers",
            "test_what_is_no_pattern",
        ),
        "tests/egress/test_socket.py": (
            "test_dns_rebinding_meets_a_second_check",
            "test_one_unacceptable_answer_refuses_them_all",
            "test_a_peer_other_than_the_checked_address_is_refused",
            "test_a_certificate_that_does_not_prove_the_name_is_refused",
        ),
        "tests/capabilities/test_websocket.py": (
            "test_it_decides_before_anything_is_sent",
            "test_a_private_address_is_refused",
        ),
        "tests/capabilities/test_socket_attacks.py": ("test_a_domain_that_nobody_granted_is_not_even_connected_to",),
        "tests/egress/test_websocket.py": ("test_tls_is_verified_for_the_name",),
    },
    "4. Compiled code is authenticated before it is loaded": {
        "tests/sandbox/test_cache.py": (
            "test_a_changed_file_is_not_loaded_but_made_again",
            "test_a_file_of_another_component_under_this_name_is_not_loaded",
            "test_a_cache_restored_with_its_own_key_elsewhere_brings_no_code",
        ),
        "tests/runtime/test_compiled_code.py": (
            "test_somebody_who_may_write_to_both_directories_brings_no_code_under_an_approved_digest",
        ),
    },
    "5. Host functions return errors as values": {
        HOSTILE: ("test_it_gets_errors_as_values_and_answers",),
        "tests/capabilities/test_message.py": (
            "test_any_text_is_read_or_refused",
            "test_any_json_is_read_or_refused",
        ),
        "tests/sandbox/test_instance.py": (
            "test_a_host_function_that_returns_what_cannot_be_encoded_gets_it_replaced",
        ),
    },
    "6. Imports and exports fit the contract, by type": {
        "tests/sandbox/test_typecheck.py": (
            "test_it_is_refused_when_it_is_loaded",
            "test_a_wasi_function_of_another_type_is_refused_as_such_and_not_as_a_lack_of_memory",
        ),
        "tests/sandbox/test_compiler.py": ("test_what_is_no_component_binary_never_reaches_the_compiler",),
        HOSTILE: ("test_it_is_refused_before_it_runs",),
    },
    "7. Every endless guest ends by its deadline": {
        HOSTILE: (
            "test_an_endless_guest_ends_in_time_while_eight_threads_are_busy",
            "test_a_flood_of_host_calls_ends_by_its_count_where_there_is_time",
        ),
        "tests/sandbox/test_failure.py": ("test_a_python_loop_ends_at_its_deadline_and_at_its_cpu_time",),
    },
    "8. Every run ends by its deadline, waiting included": {
        PROMISES: (
            "test_an_endless_upstream_ends_with_the_run",
            "test_a_name_that_never_resolves_ends_with_the_run",
            "test_a_server_that_does_not_accept_ends_with_the_run",
            "test_what_takes_long_to_redact_ends_with_the_run",
        ),
        "tests/egress/test_client.py": (
            "test_a_drip_fed_body_ends_with_the_run",
            "test_slow_headers_end_with_the_run",
        ),
        "tests/faults/test_stuck.py": (
            "test_while_postgresql_is_frozen_all_are_told_so_in_time_and_when_it_is_back_they_are_served",
            "test_while_another_program_holds_the_write_lock_nobody_waits_longer_than_promised",
        ),
        "tests/faults/test_callers.py": (
            "test_embedded_runs_on_many_threads_fail_in_time_whatever_the_driver_does",
            "test_a_server_whose_database_is_frozen_ends_within_its_grace",
            "test_a_name_that_hangs_in_the_resolver_ends_a_request_long_before_the_run",
        ),
        "tests/runtime/test_workers.py": ("test_a_run_that_no_thread_can_be_started_for_is_refused_and_never_begins",),
        "tests/capabilities/test_socket_attacks.py": ("test_a_flood_that_is_not_read_ends_with_the_run",),
        "tests/egress/test_websocket.py": (
            "test_endless_pings_end_with_the_run",
            "test_a_server_that_never_answers_ends_with_the_first_byte_timeout",
        ),
    },
    "9. Compiling is bounded, in a process of its own": {
        "tests/sandbox/test_compiler.py": (
            "test_a_component_that_explodes_is_stopped_by_its_cpu_time",
            "test_a_component_that_explodes_is_stopped_by_wall_clock_time",
            "test_a_component_that_explodes_is_stopped_by_its_memory",
            "test_other_runs_go_on_while_something_compiles",
        ),
        "tests/sandbox/test_stalling.py": (
            "test_a_component_with_too_many_is_refused_at_a_glance_and_never_compiled",
            "test_a_component_with_as_many_as_may_be_is_checked_in_no_time",
        ),
    },
    "10. Memory of the host is bounded": {
        HOSTILE: ("test_it_is_ended_with_an_error_of_its_own",),
        "tests/sandbox/test_arguments.py": (
            "test_an_argument_of_many_mebibytes_is_not_copied",
            "test_a_hundred_mebibytes_do_not_take_the_process_to_a_gibibyte",
        ),
        "tests/core/test_outputs.py": ("test_documents_that_fit_alone_and_not_together_are_an_error",),
        "tests/sandbox/test_engine.py": ("test_proposals_that_no_catalyst_needs_are_refused",),
        "tests/sandbox/test_instance.py": (
            "test_output_over_its_limit_is_not_even_decoded",
            "test_memory_that_a_guest_begins_with_counts",
        ),
        "tests/capabilities/test_socket_attacks.py": (
            "test_what_a_guest_never_reads_stays_with_its_sender",
            "test_a_flood_ends_with_the_bytes_that_a_connection_may_send",
        ),
        "tests/runtime/test_connections.py": ("test_a_caller_who_does_not_read_fills_no_memory_and_loses_nothing",),
    },
    "11. One store per run": {
        "tests/sandbox/test_instance.py": (
            "test_every_run_has_a_memory_of_its_own",
            "test_exceptions_of_parallel_runs_are_not_mixed_up",
        ),
        PROMISES: (
            "test_what_a_run_wrote_the_next_one_does_not_find",
            "test_what_runs_write_at_once_they_do_not_find_in_each_other",
            "test_what_a_run_wrote_before_it_was_cancelled_the_next_one_does_not_find",
        ),
    },
    "12. No ambient authority": {
        PROMISES: ("test_what_a_component_does_not_import_does_not_exist_for_it",),
        "tests/sandbox/test_instance.py": ("test_a_guest_that_is_like_a_rust_build_runs_in_an_empty_wasi",),
        "tests/sandbox/test_typecheck.py": (
            "test_the_operator_may_name_more_of_wasi_and_it_is_empty_all_the_same",
            "test_naming_what_is_not_wasi_lets_nothing_in",
        ),
    },
    "13. Redirects are returned": {
        "tests/capabilities/test_http.py": ("test_a_redirect_comes_back_and_nothing_is_sent_on",),
        "tests/capabilities/test_websocket.py": ("test_a_redirect_is_not_followed",),
    },
    "14. A guest's headers cannot smuggle": {
        "tests/egress/test_headers.py": (
            "test_header_injection_sends_nothing",
            "test_a_guest_cannot_frame_its_own_body",
            "test_a_field_that_is_the_hosts_is_dropped_from_the_guests",
        ),
        "tests/capabilities/test_http.py": ("test_a_part_cannot_smuggle_a_header_through_its_names",),
        "tests/capabilities/test_websocket.py": (
            "test_headers_of_the_handshake_are_the_hosts",
            "test_a_line_break_in_a_header_sends_nothing",
            "test_a_subprotocol_that_is_no_token_sends_nothing",
        ),
    },
    "15. Only what a trusted key signed is installed and run": {
        "tests/trust/test_verification.py": (
            "test_a_hostile_bundle_fails_at_its_step",
            "test_rolled_back_to_a_version_with_a_genuine_signature",
            "test_mix_and_match_of_one_versions_signature_with_anothers_bytes",
            "test_changed_after_it_was_installed_and_signed_anew",
        ),
        "tests/e2e/test_distribution.py": (
            "test_a_key_that_is_revoked_stops_what_is_installed",
            "test_a_tag_that_was_moved_back_does_not_bring_the_old_version",
        ),
        "tests/store/test_approvals.py": (
            "test_a_downloaded_file_that_names_itself_as_the_operators_own_waits_whatever_its_version",
        ),
    },
    "16. Answers are capped as they arrive": {
        "tests/egress/test_decoding.py": (
            "test_a_gzip_bomb_stops_at_the_limit",
            "test_a_chained_gzip_bomb_stops_at_the_limit",
        ),
        "tests/egress/test_connection.py": ("test_an_endless_trailer_is_an_error",),
        "tests/egress/test_websocket.py": (
            "test_a_message_over_its_size_ends_the_connection",
            "test_a_flood_ends_with_the_bytes_of_the_connection",
        ),
    },
    "17. Redaction finds every form, in bounded time": {
        "tests/secrets/test_redaction.py": (
            "test_every_encoding_of_every_secret_is_found",
            "test_a_near_miss_is_left_alone",
            "test_a_guest_that_has_one_way_of_writing_put_into_another_does_not_get_the_secret",
            "test_a_guest_that_knows_how_a_secret_of_several_parts_begins_cannot_read_on_from_there",
        ),
        "tests/secrets/test_cost.py": (
            "test_a_text_made_to_be_slow_costs_a_few_looks_at_each_byte",
            "test_a_guest_that_times_the_search_of_its_guesses_measures_the_same_for_right_and_wrong_ones",
        ),
        "tests/capabilities/test_echoing_upstream.py": (
            "test_no_guest_gets_twelve_characters_of_a_secret_out_of_any_upstream_that_echoes",
        ),
    },
    "18. Streams are capped, unguessable and closed": {
        "tests/capabilities/test_streaming.py": (
            "test_a_forged_handle_is_invalid",
            "test_a_handle_of_another_run_is_invalid_while_that_run_still_has_it_open",
            "test_what_a_run_left_open_is_closed_when_it_ends",
        ),
        "tests/capabilities/test_websocket.py": (
            "test_the_handle_of_another_run_is_none",
            "test_connections_that_a_run_leaves_open_end_with_it",
        ),
        "tests/capabilities/test_socket_attacks.py": (
            "test_connections_that_are_never_closed_stop_at_their_number_and_end_with_the_run",
            "test_a_handle_that_was_closed_sends_nothing_and_is_not_waited_for",
        ),
    },
    "19. Nothing in the database acts, and sealed rows stay sealed": {
        "tests/store/test_state_digest.py": (
            "test_a_row_that_other_hands_wrote_is_found",
            "test_what_was_taken_back_does_not_come_back",
        ),
        "tests/store/test_schema.py": (
            "test_somebody_who_may_write_to_the_database_and_adds_what_acts_is_found_before_anything_runs_or_is_sealed",
            "test_a_record_is_written_once_or_its_effect_does_not_happen",
            "test_the_schemas_are_those_that_the_migrations_make",
            "test_what_the_change_did_not_mean_to_write_is_not_sealed_whatever_wrote_it",
        ),
        "tests/store/test_counters.py": (
            "test_counts_that_other_hands_changed_admit_nobody",
            "test_counts_put_back_with_their_own_seal_admit_nobody",
        ),
        "tests/runtime/test_compiled_code.py": (
            "test_somebody_who_may_write_to_both_directories_brings_no_code_under_an_approved_digest",
        ),
        "tests/store/test_vault.py": (
            "test_the_value_lies_in_no_file",
            "test_an_older_value_put_back_with_its_seal_is_an_error",
            "test_a_secret_of_another_owner_is_an_error_in_its_place",
        ),
    },
    "20. The audit log shows every change to it, and comes before the effect": {
        "tests/store/test_audit_verification.py": (
            "test_a_change_of_the_table_is_found",
            "test_an_end_cut_off_is_still_found_when_others_have_come_in_its_place",
        ),
        "tests/capabilities/test_exchange.py": ("test_when_a_request_cannot_be_recorded_nothing_is_sent",),
        "tests/store/test_group_commit.py": ("test_what_its_caller_gave_up_before_it_was_begun_is_never_done",),
        PROMISES: ("test_every_run_that_ended_badly_is_in_the_record",),
        "tests/store/test_schema.py": ("test_a_record_is_written_once_or_its_effect_does_not_happen",),
    },
    "21. Limits are per catalyst and per key": {
        "tests/egress/test_socket.py": ("test_one_catalyst_never_gets_the_connection_of_another",),
        "tests/server/test_keys.py": ("test_is_each_keys_own",),
        "tests/server/test_budgets.py": ("test_many_at_once_do_not_pass_a_budget_that_is_nearly_spent",),
        "tests/runtime/test_executor.py": ("test_however_many_keys_ask_for_all_slots_there_is_one_for_another",),
    },
    "22. Output of guests is bounded before it is parsed, and no terminal obeys it": {
        "tests/sandbox/test_instance.py": ("test_what_utf8_cannot_hold_is_replaced_and_raises_nothing",),
        "tests/sandbox/test_failure.py": ("test_a_guest_cannot_pass_for_a_deadline_or_a_denial_by_what_it_says",),
        "tests/server/test_middleware.py": ("test_for_people_shows_nothing_that_a_terminal_would_obey",),
    },
    "23. Nothing of the environment counts, and no policy denies": {
        "tests/egress/test_client.py": (
            "test_nothing_from_the_environment_changes_a_request",
            "test_a_cookie_is_not_kept",
        ),
        "tests/runtime/test_host.py": ("test_without_a_policy_nothing_is_reachable",),
    },
    "24. Work follows admission": {
        "tests/server/test_auth.py": (
            "test_once_there_was_one_there_is_no_way_in_without",
            "test_a_proxy_that_adds_a_line_of_its_own_is_believed_and_not_the_lines_before_it",
        ),
        "tests/server/test_protocol.py": ("test_what_never_ends_is_cut_off",),
        "tests/server/test_scopes.py": (
            "test_an_operation_that_the_key_is_not_for_is_refused_before_its_body_is_read",
            "test_a_public_key_cannot_delete_another_s_file_which_it_may_see",
        ),
        "tests/server/test_connections.py": ("test_whoever_opens_connections_and_says_nothing_stops_nobody",),
        "tests/runtime/test_workers.py": ("test_work_that_no_thread_can_be_started_for_is_refused_and_never_done",),
        "tests/server/realtime/test_endpoint.py": (
            "test_cross_site_websocket_hijacking_is_refused",
            "test_without_one_nobody_gets_in",
            "test_one_that_is_not_for_this_is_refused_before_the_upstream_is_asked",
        ),
    },
    "25. A kill at any point loses nothing that was acknowledged": {
        "tests/store/test_crash.py": (
            "test_what_was_acknowledged_is_there_whenever_it_is_killed",
            "test_a_state_that_is_being_made_can_be_made_whenever_it_is_killed",
        ),
        "tests/store/test_power_loss.py": (
            "test_a_state_that_loses_power_at_any_sync_opens_with_all_that_was_acknowledged",
            "test_a_log_that_was_cut_with_its_head_later_does_not_verify",
        ),
    },
}


# What a WebSocket could be a way around.
OF_WEBSOCKETS: Final = (1, 2, 3, 8, 10, 13, 14, 16, 18, 24)


@cache
def functions_in(path: str) -> frozenset[str]:
    """The names of all test functions in the file, those of classes too."""
    tree = ast.parse((ROOT / path).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions)


def test_there_are_25_requirements_in_order() -> None:
    assert [name.partition(".")[0] for name in REQUIREMENTS] == [str(number) for number in range(1, 26)]


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_a_requirement_names_tests_that_there_are(requirement: str) -> None:
    named = REQUIREMENTS[requirement]
    assert any(named.values())
    assert {path: sorted(set(names) - functions_in(path)) for path, names in named.items()} == {
        path: [] for path in named
    }


@pytest.mark.parametrize("number", OF_WEBSOCKETS)
def test_a_requirement_of_requests_is_shown_of_websockets_too(number: int) -> None:
    [named] = [paths for name, paths in REQUIREMENTS.items() if name.startswith(f"{number}. ")]
    assert any("socket" in path or "connections" in path or "realtime" in path for path in named)
