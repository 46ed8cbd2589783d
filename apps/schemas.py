"""The models of a user, by the names that the first version gave them."""

from ai_admin.users.schemas import AiUserCreate, AiUserUpdate

__all__ = ["AiUserCreate", "AiUserUpdate"]
