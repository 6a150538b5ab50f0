"""Operations on tokens, in torch alone."""
