"""Which models a key may use, asked of LiteLLM: an error names no model that its reader would be refused."""

from __future__ import annotations

from litellm.proxy import proxy_server
from litellm.proxy._types import LitellmUserRoles, ProxyException, SpecialModelNames, UserAPIKeyAuth
from litellm.proxy.auth.auth_checks import can_object_call_model


def may_use(key: UserAPIKeyAuth, model: str) -> bool:
    """Whether LiteLLM knows the model and lets this key call it."""
    router = proxy_server.llm_router
    if router is None or not router.get_model_list(model_name=model):
        return False
    if key.user_role == LitellmUserRoles.PROXY_ADMIN:
        return True
    allowed = [list(key.models or ())]
    if SpecialModelNames.all_team_models.value in allowed[0]:
        allowed = []
    if key.team_id is not None:
        allowed.append(list(key.team_models or ()))
    try:
        for models in allowed:
            can_object_call_model(model=model, llm_router=router, models=models, object_type="key")
    except ProxyException:
        return False
    return True
