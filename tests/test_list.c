/* list.h: order, removing twice, splicing. */
#include "list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    int value;
    struct list link;
};

static void fill(struct list *l, struct item *items, int n, int first)
{
    list_init(l);
    for (int i = 0; i < n; i++) {
        items[i].value = first + i;
        list_push_back(l, &items[i].link);
    }
}

/* assert_values checks l in both directions against first, first + 1, .. (n of them). */
static void assert_values(const struct list *l, int n, int first)
{
    const struct list *node = l->next;
    for (int i = 0; i < n; i++, node = node->next) {
        assert_int_equal(list_entry(node, const struct item, link)->value, first + i);
        assert_ptr_equal(node->next->prev, node);
        assert_ptr_equal(node->prev->next, node);
    }
    assert_ptr_equal(node, l);
}

static void test_keeps_order(void **state)
{
    (void)state;
    struct list l;
    struct item items[5];
    fill(&l, items, 0, 0);
    assert_true(list_empty(&l));
    fill(&l, items, 5, 1);
    assert_false(list_empty(&l));
    assert_values(&l, 5, 1);
}

static void test_pushes_to_the_front(void **state)
{
    (void)state;
    struct list l;
    struct item items[3];
    list_init(&l);
    for (int i = 2; i >= 0; i--) {
        items[i].value = i;
        list_push_front(&l, &items[i].link);
        assert_values(&l, 3 - i, i);
    }
}

static void test_removes_and_removes_again(void **state)
{
    (void)state;
    struct list l;
    struct item items[3];
    fill(&l, items, 3, 1);
    list_remove(&items[0].link);
    list_remove(&items[0].link);
    assert_true(list_empty(&items[0].link));
    assert_values(&l, 2, 2);
    list_remove(&items[2].link);
    assert_values(&l, 1, 2);
    list_remove(&items[1].link);
    assert_true(list_empty(&l));
    list_push_back(&l, &items[0].link);
    assert_values(&l, 1, 1);
}

static void test_splices(void **state)
{
    (void)state;
    struct list a, b;
    struct item first[3], second[2];
    for (int n = 0; n <= 3; n++) {
        for (int m = 0; m <= 2; m++) {
            fill(&a, first, n, 1);
            fill(&b, second, m, n + 1);
            list_splice(&a, &b);
            assert_true(list_empty(&b));
            assert_values(&a, n + m, 1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_order),
        cmocka_unit_test(test_pushes_to_the_front),
        cmocka_unit_test(test_removes_and_removes_again),
        cmocka_unit_test(test_splices),
    };
    return cmocka_run_group_tests_name("list", tests, NULL, NULL);
}
