"""The kit catches a faulty adapter: each fault is shown by the case that names it."""

import pytest

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.adapters.rabbitmq import RabbitMQAdapter
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageBrokerPort
from pyfly_messaging.testing.conformance import Capabilities, ConformanceSuite
from tests.brokers import RabbitCluster

from .faults import beyond, cancellation, delivery, failure, lifecycle, messages, outage
from .faults.base import Fault

FAULTS: list[tuple[type[Fault], str]] = [
    (delivery.AcknowledgesFirst, "test_failed_attempt_is_repeated"),
    (delivery.AcknowledgesFirst, "test_one_at_a_time"),
    (delivery.AcknowledgesFirst, "test_cancelled_message_comes_again_after_a_restart"),
    (delivery.SettlesWhatItCancels, "test_cancelled_message_comes_again_after_a_restart"),
    (delivery.LosesAtStop, "test_cancelled_message_comes_again_after_a_restart"),
    (delivery.LosesAtStop, "test_message_between_attempts_comes_again_after_a_restart"),
    (delivery.ForgetsKeys, "test_order_of_each_key_at_higher_concurrency"),
    (delivery.ForgetsKeys, "test_one_at_a_time_for_each_key"),
    (delivery.HasNoOrder, "test_one_at_a_time"),
    (delivery.IsNeverConcurrent, "test_concurrency_is_reached"),
    (delivery.IsNeverConcurrent, "test_retry_holds_up_its_own_key_only"),
    (delivery.ExceedsConcurrency, "test_concurrency_is_not_exceeded"),
    (delivery.IgnoresGroups, "test_group_shares_messages_in_turn"),
    (delivery.SharesWithoutGroup, "test_every_listener_without_group_gets_every_message"),
    (delivery.CallsOneAfterTheOther, "test_listeners_without_group_do_not_wait_for_each_other"),
    (delivery.RenewsNoClaim, "test_slow_handler_keeps_its_message"),
    (delivery.RaisesConcurrency, "test_concurrency_of_one_listener_in_a_group"),
    (failure.RetriesEveryHandler, "test_only_the_failed_handler_is_retried"),
    (failure.SwallowsErrors, "test_failed_attempt_is_repeated"),
    (failure.LosesGeneratorExits, "test_generator_exit_of_a_handler_is_a_failed_attempt"),
    (failure.DropsWhatIsSpent, "test_dead_letter_is_the_message_unchanged"),
    (failure.RetriesForEver, "test_retries_come_after_the_first_attempt"),
    (failure.RetriesAtOnce, "test_retries_wait_longer_each_time"),
    (failure.SaysNothingInDeadLetters, "test_dead_letter_says_why_it_is_one"),
    (failure.BelievesHeaders, "test_dead_letter_says_nothing_that_was_forged"),
    (failure.ChoosesHandlersByHeader, "test_header_of_a_dead_letter_chooses_no_handler"),
    (failure.KnowsNoFatalException, "test_fatal_exception_is_not_retried"),
    (failure.HasNoTimeout, "test_attempt_over_its_timeout_has_failed"),
    (failure.AsksForTexts, "test_exception_whose_text_raises_an_exit"),
    (failure.LogsTexts, "test_exception_text_is_escaped_and_bounded"),
    (failure.KeepsTexts, "test_exception_text_is_escaped_and_bounded"),
    (failure.LogsEveryTraceback, "test_failing_message_costs_one_traceback"),
    (messages.DropsHeaders, "test_message_is_what_was_published"),
    (messages.DropsHeaders, "test_headers_in_any_script"),
    (messages.TakesValuesForText, "test_every_byte_in_a_value"),
    (messages.TakesValuesForText, "test_wrong_types_to_publish"),
    (messages.TakesEmptyForNone, "test_empty_key"),
    (messages.KnowsNoCapitals, "test_topics_that_differ_in_one_character"),
    (messages.KnowsNoCapitals, "test_groups_that_differ_in_one_character"),
    (messages.CutsNames, "test_topics_that_differ_in_one_character"),
    (messages.CutsNames, "test_groups_that_differ_in_one_character"),
    (messages.CutsLargeValues, "test_large_value"),
    (messages.SharesHeaders, "test_headers_that_handlers_change"),
    (lifecycle.PublishesAtAnyTime, "test_publish_before_start_raises"),
    (lifecycle.PublishesAtAnyTime, "test_publish_after_stop_raises"),
    (lifecycle.StartsLater, "test_message_right_after_start_is_seen"),
    (lifecycle.SubscribesLater, "test_subscribe_on_a_running_broker"),
    (lifecycle.SubscribesTwice, "test_same_subscription_twice"),
    (lifecycle.StopsInTheBackground, "test_stop_lets_a_running_handler_finish"),
    (lifecycle.StopsInTheBackground, "test_nothing_is_handled_after_stop"),
    (lifecycle.StopsAtOnce, "test_stop_lets_a_running_handler_finish"),
    (lifecycle.NeverStops, "test_stop_cancels_after_its_timeout"),
    (lifecycle.SwallowsRefusals, "test_publish_while_it_stops"),
    (lifecycle.DiesOfACancelledPublish, "test_cancelled_publish_hurts_no_other"),
    (lifecycle.StopsOneAfterTheOther, "test_stuck_listeners_share_the_timeout"),
    (lifecycle.StopsOneAfterTheOther, "test_stop_beside_a_stuck_listener"),
    (lifecycle.WaitsForItsCaller, "test_handler_that_stops_its_broker"),
    (lifecycle.KnowsItsCallerByTheTask, "test_handler_that_stops_its_broker_in_another_task"),
    (lifecycle.WaitsForTheStopUnderWay, "test_handler_that_stops_a_broker_that_stops"),
    (lifecycle.WaitsForItsCaller, "test_handlers_that_stop_each_others_broker"),
    (lifecycle.SettlesWhatFailsAfterStop, "test_handler_that_stops_its_broker_and_fails"),
    (failure.BuriesLater, "test_message_spent_while_it_stops"),
    (lifecycle.LeavesATask, "test_nothing_is_left_behind"),
    (lifecycle.LeavesATask, "test_every_byte_in_a_value"),
    (lifecycle.LeavesATaskOfEachRestart, "test_restart"),
    (lifecycle.IsSlowToStop, "test_idle_stop_is_quick"),
    (lifecycle.LeavesAThread, "test_nothing_is_left_behind"),
    (lifecycle.LeavesAFile, "test_nothing_is_left_behind"),
    (lifecycle.LeavesAProcess, "test_nothing_is_left_behind"),
    (cancellation.ForgetsATask, "test_cancelled_subscribe_leaves_nothing"),
    (cancellation.ForgetsATask, "test_cancelled_start_leaves_nothing"),
    (cancellation.ForgetsATask, "test_cancelled_stop_leaves_nothing"),
    (cancellation.ForgetsATask, "test_cancelled_publish_leaves_nothing"),
    (cancellation.ForgetsATaskTheSecondTime, "test_subscribe_cancelled_twice"),
    (cancellation.ForgetsATaskTheSecondTime, "test_start_cancelled_twice"),
    (cancellation.ForgetsATaskTheSecondTime, "test_stop_cancelled_twice"),
    (cancellation.KeepsACancelledListener, "test_cancelled_subscribe_leaves_nothing"),
    (cancellation.RestartsAfterACancelledSubscribe, "test_cancelled_subscribe_hurts_no_other"),
    (cancellation.SwallowsItsCancellation, "test_cancelled_start_leaves_nothing"),
    (cancellation.StopsOnInTheBackground, "test_cancelled_stop_leaves_nothing"),
    (cancellation.RaisesAnotherError, "test_cancelled_stop_leaves_nothing"),
    (delivery.SettlesWhatItCancels, "test_cancelled_stop_loses_nothing"),
    (beyond.LosesTheEndOfABatch, "test_batch_arrives"),
    (beyond.TurnsBatchesRound, "test_batch_keeps_its_order"),
    (beyond.SendsHalfABatch, "test_batch_with_a_wrong_message"),
    (beyond.SaysThatAllIsWell, "test_health_before_start_and_after_stop"),
    (beyond.CountsNothingInFlight, "test_health_counts_what_is_in_flight"),
]


class Sound(ConformanceSuite):
    """The in-memory broker with nothing wrong."""

    capabilities = Capabilities(
        redelivers=True, key_order=True, settles_on_publish=True, takeover=0.1
    )

    def make_broker(self, *, policy: ListenerPolicy, timeouts: Timeouts) -> MessageBrokerPort:
        return InMemoryMessageBroker(policy=policy, timeouts=timeouts)


class Faulty(Sound):
    """The same with a fault, and little patience."""

    deadline = 0.5
    fault: type[Fault] = Fault

    def make_broker(self, *, policy: ListenerPolicy, timeouts: Timeouts) -> MessageBrokerPort:
        def make(own: ListenerPolicy) -> InMemoryMessageBroker:
            return InMemoryMessageBroker(policy=own, timeouts=timeouts)

        return self.fault(make, policy)


class Passing(Faulty):
    """The sound broker behind a wrapper that does nothing."""

    deadline = 30.0


class Outages(Sound):
    """A broker behind a connection that can break, as far as its health and handlers know."""

    deadline = 2.0
    fault: type[outage.KnowsOutages] = outage.KnowsOutages

    def make_broker(self, *, policy: ListenerPolicy, timeouts: Timeouts) -> MessageBrokerPort:
        def make(own: ListenerPolicy) -> InMemoryMessageBroker:
            return InMemoryMessageBroker(policy=own, timeouts=timeouts)

        self.made = self.fault(make, policy)
        return self.made

    async def break_connection(self) -> None:
        self.made.broken = self.made.broke = True

    async def restore(self) -> None:
        self.made.broken = False


@pytest.mark.parametrize(
    ("fault", "case"),
    [
        (outage.IsDeafAfterwards, "test_every_listener_consumes_again_after_an_outage"),
        (outage.ForgetsOneListener, "test_every_listener_consumes_again_after_an_outage"),
        (outage.NoticesNothing, "test_health_during_an_outage"),
        (outage.StaysUnwell, "test_health_during_an_outage"),
    ],
)
def test_fault_of_an_outage_is_caught(fault: type[outage.KnowsOutages], case: str) -> None:
    """What shows only after an outage is caught, too."""
    sound, faulty = Outages(), Outages()
    getattr(sound, case)()
    faulty.fault = fault
    with pytest.raises(AssertionError):
        getattr(faulty, case)()


class DurableSound(ConformanceSuite):
    """RabbitMQ with nothing wrong, where several instances share a group."""

    capabilities = Capabilities(durable=True, survives_crash=True, groups_across_instances=True)
    url = ""

    def make_broker(self, *, policy: ListenerPolicy, timeouts: Timeouts) -> MessageBrokerPort:
        return RabbitMQAdapter(self.url, policy=policy, timeouts=timeouts)


class DurableFaulty(DurableSound):
    """The same with a fault, and little patience."""

    deadline = 2.0
    fault: type[Fault] = Fault

    def make_broker(self, *, policy: ListenerPolicy, timeouts: Timeouts) -> MessageBrokerPort:
        def make(own: ListenerPolicy) -> RabbitMQAdapter:
            return RabbitMQAdapter(self.url, policy=own, timeouts=timeouts)

        return self.fault(make, policy)


@pytest.mark.parametrize(
    ("fault", "case"), FAULTS, ids=[f"{fault.__name__}-{case}" for fault, case in FAULTS]
)
def test_fault_is_caught(fault: type[Fault], case: str) -> None:
    """A sound broker passes the case; with the fault it does not."""
    getattr(Sound(), case)()
    faulty = Faulty()
    faulty.fault = fault
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(faulty, case)()


@pytest.mark.parametrize("case", sorted({case for _, case in FAULTS}))
def test_wrapping_is_no_fault(case: str) -> None:
    """A broker that only passes everything on passes: it is the fault that is caught."""
    getattr(Passing(), case)()


class OutOfReach(Faulty):
    """RabbitMQ where nobody answers."""

    deadline = 10.0

    def make_unreachable_broker(
        self, *, policy: ListenerPolicy, timeouts: Timeouts
    ) -> MessageBrokerPort:
        def make(own: ListenerPolicy) -> RabbitMQAdapter:
            return RabbitMQAdapter("amqp://127.0.0.1:1/", policy=own, timeouts=timeouts)

        return self.fault(make, policy)


@pytest.mark.parametrize("fault", [lifecycle.GivesUpLate, lifecycle.TakesNoNotice])
def test_fault_out_of_reach_is_caught(fault: type[Fault]) -> None:
    """What shows only where nobody answers is caught, too."""
    sound, faulty = OutOfReach(), OutOfReach()
    sound.test_unreachable_broker()
    faulty.fault = fault
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        faulty.test_unreachable_broker()


DURABLE_FAULTS: list[tuple[type[Fault], str]] = [
    (delivery.AcknowledgesFirst, "test_unfinished_message_goes_to_the_next_instance"),
    (delivery.SettlesWhatItCancels, "test_unfinished_message_goes_to_the_next_instance"),
    (delivery.SettlesWhatItCancels, "test_settled_messages_beside_an_unfinished_one"),
    (failure.SwallowsErrors, "test_message_between_attempts_goes_to_the_next_instance"),
    (delivery.AcknowledgesFirst, "test_killed_process_leaves_what_it_had_not_settled"),
    (delivery.AcknowledgesFirst, "test_killed_process_leaves_its_share_to_the_others"),
    (delivery.PutsBackAtStop, "test_killed_process_leaves_what_it_had_not_settled"),
    (delivery.PublishesLazily, "test_killed_publisher_loses_nothing"),
    (delivery.NeverAcknowledges, "test_handled_message_is_settled"),
    (delivery.PublishesLazily, "test_published_message_survives_its_publisher"),
    (delivery.IsAloneInItsGroup, "test_instances_share_a_group"),
    (beyond.HidesRefusals, "test_batch_error_names_what_is_unroutable"),
    (delivery.IsAloneInItsGroup, "test_group_gets_what_came_while_it_was_away"),
]


@pytest.mark.parametrize(
    ("fault", "case"),
    DURABLE_FAULTS,
    ids=[f"{fault.__name__}-{case}" for fault, case in DURABLE_FAULTS],
)
def test_durable_fault_is_caught(fault: type[Fault], case: str, rabbitmq: RabbitCluster) -> None:
    """What shows only between instances is caught, too."""
    sound, faulty = DurableSound(), DurableFaulty()
    sound.url = faulty.url = rabbitmq.url
    getattr(sound, case)()
    faulty.fault = fault
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(faulty, case)()
