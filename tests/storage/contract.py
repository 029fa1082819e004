"""The contract that every store must keep, as tests. Each store's test file subclasses `StoreContract` and creates that store."""

from tests.storage.contract_ends import EndContract
from tests.storage.contract_limits import LimitContract
from tests.storage.contract_streams import StreamContract
from tests.storage.contract_subscriptions import SubscriptionContract


class StoreContract(StreamContract, EndContract, LimitContract, SubscriptionContract):
    """All contract tests of `storage.store.Store`."""
