"""Operations on jobs: submit, plan, find, continue, explain, pull, verify. Imports worker and below."""
