"""The contract that every store keeps. The test file of a store subclasses `StoreContract` and creates that store."""

from tests.storage.contract_ends import EndContract
from tests.storage.contract_streams import StreamContract
from tests.storage.contract_subscriptions import SubscriptionContract


class StoreContract(StreamContract, EndContract, SubscriptionContract):
    """The whole contract of `storage.store.Store`."""
